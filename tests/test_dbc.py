"""The DBC reader: what it understands, what it says, and that it agrees with cantools where cantools reads at all."""

from pathlib import Path

import pytest

from agent.errors import ConfigError
from drivers.decode.dbc import Database, Message, Signal, load_dbc

DBC_FOLDER = Path(__file__).parents[1].parent / "shared" / "data" / "can"


def load(tmp_path: Path, text: str, encoding: str = "utf-8") -> Database:
    path = tmp_path / "some.dbc"
    path.write_bytes(text.encode(encoding))
    return load_dbc(path)


def only(database: Database) -> Message:
    (message,) = database.messages
    return message


def test_a_message_with_signals_is_read_as_written(tmp_path: Path) -> None:
    message = only(
        load(
            tmp_path,
            'BO_ 201 ENGINE: 8 ECM\n SG_ Rpm : 0|16@1+ (0.25,0) [0|16383.75] "rpm" BOX\n'
            ' SG_ Angle : 23|12@0- (1E-1,-40) [0|0] "°" BOX,TOOL\n',
        )
    )
    assert (message.name, message.id, message.extended, message.length) == ("ENGINE", 201, False, 8)
    assert message.signals == (
        Signal("Rpm", 0, 16, scale=0.25, minimum=0, maximum=16383.75, unit="rpm"),
        Signal("Angle", 23, 12, big_endian=True, signed=True, scale=0.1, offset=-40, unit="°"),
    )
    assert [s.first_bit for s in message.signals] == [0, 16]
    assert [s.bytes_needed for s in message.signals] == [2, 4]


def test_cp1252_is_read_when_the_file_is_not_utf_8(tmp_path: Path) -> None:
    text = 'BO_ 1 M: 8 X\n SG_ T : 0|8@1+ (1,0) [0|0] "°C" X\n'
    assert only(load(tmp_path, text, "cp1252")).signals[0].unit == "°C"
    assert only(load(tmp_path, text, "utf-8-sig")).signals[0].unit == "°C"


def test_comment_lines_that_look_like_messages_are_not_messages(tmp_path: Path) -> None:
    text = 'BO_ 1 M: 8 X\n SG_ A : 0|8@1+ (1,0) [0|0] "" X\nCM_ BO_ 1 "first line\nBO_ 2 N: 8 X\nlast";\n'
    database = load(tmp_path, text)
    assert only(database).name == "M"
    assert database.skipped == ()


def test_a_text_that_never_ends_does_not_swallow_the_rest(tmp_path: Path) -> None:
    database = load(tmp_path, 'CM_ "no end;\nBO_ 1 M: 8 X\n SG_ A : 0|8@1+ (1,0) [0|0] "" X\n')
    assert [s.name for s in only(database).signals] == ["A"]
    assert database.skipped == ('line 1: CM_ "no end;: the quoted text never ends',)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('BO_ 1 M: 8 X\nCM_ SG_ 1 "about nothing";', "line 2: CM_ SG_ 1"),
        ('BO_ 1 M: 8 X\nCM_ "no semicolon"', "without its closing semicolon"),
        ("BO_ 1 2017_5: 8 X", "starts with a digit; kept"),
        ('BO_ 1 M: 8 X\n SG_ 5_A : 0|8@1+ (1,0) [0|0] "" X', "starts with a digit; kept"),
        ('BO_ 1 M: 8 X\n SG_ A : 0|8@1+ (.25,0) [0|0] "" X', "without a digit before its point"),
        ("BO_ 4096 M: 8 X", "taken as a 29-bit identifier"),
        ('BO_ 1 M: 8 X\nVAL_ 1 Absent 0 "off" ;', "signal that is not in the file"),
        ('BO_ 1 M: 8 X\n SG_ A : 0|8@1+ (one,0) [0|0] "" X', "is not a number"),
        ("BO_ 1 M: 8 X\n SG_ A 0 8", "not a signal line"),
        ('BO_ 1 M: 8 X\n SG_ A : 0|0@1+ (1,0) [0|0] "" X', "a signal of 0 bits"),
        ('BO_ 1 M: 8 X\nBO_ 1073741825 N: 8 X\n SG_ A : 0|8@1+ (1,0) [0|0] "" X', "no CAN identifier is as large"),
        ('SG_ A : 0|8@1+ (1,0) [0|0] "" X\nBO_ 1 M: 8 X', "belongs to no message"),
        ("BO_ x\nBO_ 1 M: 8 X", "not a message line"),
        ("BO_ 1 M: 8 X\nBO_ 1 N: 8 X", "identifier 0x1 was used by M; the last one decodes"),
        ('BO_ 1 M: 8 X\n SG_ A m1 : 0|8@1+ (1,0) [0|0] "" X', "nothing says by what"),
        ('BO_ 1 M: 8 X\n SG_ A : 0|8@1+ (1,0) [0|0] "" X\nSIG_VALTYPE_ 1 A : 1;', "a float of 8 bits"),
        ("BO_ 1 M: 8 X\nSIG_VALTYPE_ 1 B : 1;", "described, but not in the file"),
    ],
)
def test_what_is_odd_is_said_in_one_line(tmp_path: Path, line: str, said: str) -> None:
    database = load(tmp_path, line + "\n")
    assert len(database.skipped) == 1
    assert said in database.skipped[0]
    assert database.messages


def test_a_file_that_is_no_dbc_is_a_config_error_of_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.dbc"
    for content, cause in (
        (b"\x00\x01\xff" * 100, "not a DBC file"),
        (b"", "not a DBC file"),
        (b"BU_: A\n", "no message"),
    ):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=cause) as error:
            load_dbc(path)
        assert "\n" not in str(error.value)
        assert str(path) in str(error.value)
    with pytest.raises(ConfigError, match="cannot read"):
        load_dbc(tmp_path / "absent.dbc")


def test_multiplexing_is_resolved_simple_and_extended(tmp_path: Path) -> None:
    message = only(
        load(
            tmp_path,
            'BO_ 1 M: 8 X\n SG_ Page M : 0|4@1+ (1,0) [0|0] "" X\n SG_ Sub m1M : 8|4@1+ (1,0) [0|0] "" X\n'
            ' SG_ A m0 : 8|8@1+ (1,0) [0|0] "" X\n SG_ B m2 : 16|8@1+ (1,0) [0|0] "" X\n'
            "SG_MUL_VAL_ 1 Sub Page 1-1;\nSG_MUL_VAL_ 1 A Page 0-0, 5-7;\nSG_MUL_VAL_ 1 B Sub 2-3;\n",
        )
    )
    found = {s.name: (s.multiplexer, s.selector, s.selected_by) for s in message.signals}
    assert found == {
        "Page": (True, None, ()),
        "Sub": (True, "Page", ((1, 1),)),
        "A": (False, "Page", ((0, 0), (5, 7))),
        "B": (False, "Sub", ((2, 3),)),
    }


def test_j1939_marks_are_followed(tmp_path: Path) -> None:
    text = "BO_ 2364540158 EEC1: 8 X\nBO_ 2566844926 CCVS: 8 X\nBO_ 5 SHORT: 8 X\n"
    formats = 'BA_DEF_ BO_ "VFrameFormat" ENUM "StandardCAN","ExtendedCAN","reserved","J1939PG";\n'
    own = load(
        tmp_path, text + formats + 'BA_ "VFrameFormat" BO_ 2364540158 3;\nBA_ "VFrameFormat" BO_ 2566844926 1;\n'
    )
    assert [m.j1939 for m in own.messages] == [True, False, False]
    default = load(tmp_path, text + formats + 'BA_DEF_DEF_ "VFrameFormat" "J1939PG";\n')
    assert [m.j1939 for m in default.messages] == [True, True, False]
    network = load(tmp_path, text + 'BA_ "ProtocolType" "J1939";\n')
    assert [m.j1939 for m in network.messages] == [True, True, False]
    assert [m.j1939 for m in load(tmp_path, text).messages] == [False, False, False]


def test_long_names_replace_short_ones(tmp_path: Path) -> None:
    text = (
        'BO_ 1 M: 8 X\n SG_ Sel M : 0|8@1+ (1,0) [0|0] "" X\n SG_ A m1 : 8|8@1+ (1,0) [0|0] "" X\n'
        'BA_ "SystemMessageLongSymbol" BO_ 1 "LongMessage";\nBA_ "SystemSignalLongSymbol" SG_ 1 Sel "LongSelector";\n'
    )
    message = only(load(tmp_path, text))
    assert (message.name, [(s.name, s.selector) for s in message.signals]) == (
        "LongMessage",
        [("LongSelector", None), ("A", "LongSelector")],
    )


@pytest.mark.data
def test_every_real_file_loads_says_what_it_repaired_and_equals_cantools() -> None:
    cantools = pytest.importorskip("cantools")
    files = sorted(DBC_FOLDER.glob("*/*.dbc"))
    if not files:
        pytest.skip("../shared/data is absent")
    assert len([f for f in files if f.parent.name == "dbc"]) == 96
    refused = 0
    for path in files:
        database = load_dbc(path)
        assert database.messages, path
        try:
            oracle = cantools.database.load_file(path, strict=False)
        except cantools.database.UnsupportedDatabaseFormatError:
            refused += 1
            assert database.skipped, f"{path.name}: cantools refuses it and we say nothing"
            continue
        ours = [(m.name, m.id, m.extended, m.length) for m in database.messages]
        assert ours == [(m.name, m.frame_id, m.is_extended_frame, m.length) for m in oracle.messages], path
        for mine, theirs in zip(database.messages, oracle.messages, strict=True):
            if theirs.is_extended_frame and theirs.protocol == "j1939":
                assert mine.j1939
            assert {s.name: _facts(s) for s in mine.signals} == {s.name: _oracle_facts(s) for s in theirs.signals}, path
    assert refused == 32


def _facts(s: Signal) -> tuple[object, ...]:
    values = {v for low, high in s.selected_by for v in range(low, high + 1)}
    layout = (s.start, s.length, s.big_endian, s.signed, s.is_float, s.scale, s.offset)
    return *layout, s.minimum or 0, s.maximum or 0, s.selector, values


def _oracle_facts(s: object) -> tuple[object, ...]:
    c = s.conversion
    layout = (s.start, s.length, s.byte_order == "big_endian", s.is_signed, c.is_float, c.scale, c.offset)
    return *layout, s.minimum or 0, s.maximum or 0, s.multiplexer_signal, set(s.multiplexer_ids or ())
