"""Steps in which somebody enters something: enrolment, the car, the binding, the owner's consent."""

from typing import Final

from agent.clock import iso_utc
from agent.consent.settings import PURPOSES, ConsentSettings
from agent.enrolment.enrol import enrol
from agent.enrolment.folder import TlsFolder
from agent.enrolment.moments import of_machine
from agent.errors import ConfigError, UplinkError
from agent.fitting.binding import bind
from agent.fitting.finding import asks, told_vin
from agent.fitting.fitting import Fitting, item
from agent.fitting.sheet import Item
from agent.fitting.talk import rows_of
from agent.vin import vin_checked, vin_valid

MOST_TYPED: Final = 3  # tries of somebody who types a VIN or a code
TELL_S: Final = 45.0  # for an adapter to find the vehicle: ten protocols are tried
_VIN_WRONG: Final = "that is no VIN: 17 letters and digits without I, O, Q, and a right check digit"


def vehicle(fitting: Fitting) -> list[Item]:
    """Compare the VIN of the papers with what the car tells; one that the car does not tell is typed twice."""
    talk = fitting.talk
    status = fitting.running()
    typed = _typed_vin(fitting, "VIN as in the car's papers")
    if asks(status) and not told_vin(status):
        talk.say("Waiting for the car to tell its VIN; switch the ignition on …", "dim")
        status = fitting.awaited(lambda now: bool(told_vin(now)), TELL_S)
    told = told_vin(status)
    if told and told != typed:
        advice = f"This box is in another car, or the papers are: compare with the plate. The car says {told}."
        items = [item("vin", "VIN", "fail", f"papers: {typed}; car: {told}", advice)]
        talk.rows(rows_of(items))
        return items
    if not told and talk.attended:
        talk.say("The car does not tell its VIN. Type it once more, from the plate behind the windscreen.")
        if _typed_vin(fitting, "VIN from the plate", again=True) != typed:
            items = [item("vin", "VIN", "fail", "typed twice, and not the same", "Read it again, letter by letter.")]
            talk.rows(rows_of(items))
            return items
    configuration = fitting.configuration()
    configuration.put("vehicle", {"vin": typed})
    configuration.write()
    fitting.progress.vin = typed
    if told:
        items = [item("vin", "VIN", "pass", f"{typed}: the car tells the same")]
    elif vin_checked(typed):
        items = [item("vin", "VIN", "pass", f"{typed}: as typed, check digit right; the car does not tell it")]
    else:
        said = f"{typed}: as typed; neither the car nor a check digit can prove it"
        items = [item("vin", "VIN", "warn", said, "Compare it with the plate once more.")]
    talk.rows(rows_of(items))
    return items


def _typed_vin(fitting: Fitting, question: str, *, again: bool = False) -> str:
    given = "" if again else fitting.answers.vehicle.vin
    for _ in range(MOST_TYPED):
        vin = fitting.talk.ask("[vehicle] vin", question, given).upper().replace(" ", "")
        if vin_valid(vin):
            return vin
        if not fitting.talk.attended:
            raise ConfigError(f"[vehicle] vin = {vin[:40]!r}: {_VIN_WRONG}")
        fitting.talk.say(_VIN_WRONG, "red")
    raise ConfigError(f"{question}: {_VIN_WRONG}; get the papers, then start again: the wizard goes on here")


def binding(fitting: Fitting) -> list[Item]:
    """Bind the box to the car at the receiver, by the insurer's one-time code."""
    talk, given, vin = fitting.talk, fitting.answers.binding, fitting.progress.vin
    if not vin:
        return _shown(fitting, item("binding", "Binding", "fail", "the VIN is not known", "Do the step Vehicle first."))
    known = fitting.configuration().settings.enrolment
    url = known.receiver or talk.ask("[enrolment] url", "Address of the receiver", fitting.answers.enrolment.url)
    code = given.code
    for _ in range(MOST_TYPED):
        code = talk.ask("[binding] code", f"Code of the insurer for {vin} (8 letters and digits)", code)
        try:
            device = bind(fitting.store, url, known.ca, vin, code)
        except UplinkError as refused:
            options = {"t": "type the code again", "g": "go on; it stands on the sheet"}
            if not talk.attended or talk.choose(str(refused), options, "t") == "g":
                advice = "Ask the insurer, then bind on the receiver's page 'Bindings': box, VIN and code."
                return _shown(fitting, item("binding", "Binding", "fail", str(refused), advice))
            code = ""
            continue
        return _shown(fitting, item("binding", "Binding", "pass", f"{device} is bound to {vin}"))
    advice = "Ask the insurer for another code, then start again: the wizard goes on here."
    return _shown(fitting, item("binding", "Binding", "fail", "no code was right", advice))


def consent(fitting: Fitting) -> list[Item]:
    """Note where the owner's consent on paper is kept, unless a receiver has told his word."""
    talk, given = fitting.talk, fitting.answers.consent
    configuration = fitting.configuration()
    status = fitting.present()
    if status.consent is not None and "recording" in status.consent.purposes and not given.sheet:
        fitting.progress.consent = status.consent.reference
        return _shown(fitting, item("consent", "Consent", "pass", status.consent.reference))
    talk.say("The owner reads and signs the consent sheet. Without it the box keeps nothing but its own health.")
    sheet = talk.ask(
        "[consent] sheet",
        "Where the signed sheet is kept (number and date); empty: not signed",
        given.sheet,
        needed=False,
    )
    if not sheet:
        advice = "Have the owner agree, on paper or on his page 'My data'; nothing is recorded before."
        return _shown(fitting, item("consent", "Consent", "fail", "the owner has not agreed", advice))
    purposes = _purposes(fitting, given)
    configuration.put("consent", {"sheet": ConsentSettings(sheet, purposes).sheet, "purposes": list(purposes)})
    configuration.write()
    reference = f"{sheet}: {', '.join(purposes)}"
    status = fitting.running()
    agreed = set() if status.consent is None else set(status.consent.purposes)
    fitting.progress.consent = reference
    if not set(purposes) <= agreed:
        said = "nothing" if status.consent is None else status.consent.reference
        advice = "The receiver's word counts, not the paper: have the owner look at his page 'My data'."
        return _shown(fitting, item("consent", "Consent", "warn", f"{reference}; the box goes by: {said}", advice))
    return _shown(fitting, item("consent", "Consent", "pass", reference))


def _purposes(fitting: Fitting, given: ConsentSettings) -> tuple[str, ...]:
    said = fitting.talk.ask("[consent] purposes", f"It covers (of {', '.join(PURPOSES)})", ", ".join(given.purposes))
    return tuple(dict.fromkeys(word for word in said.replace(",", " ").split() if word))


def _shown(fitting: Fitting, *items: Item) -> list[Item]:
    fitting.talk.rows(rows_of(items))
    return list(items)


def enrolment(fitting: Fitting) -> list[Item]:
    """Make the box known to the receiver by a one-time code, unless it has a certificate that counts."""
    talk, given = fitting.talk, fitting.answers.enrolment
    configuration = fitting.configuration()
    known, life = configuration.settings.enrolment, TlsFolder(fitting.store).life()
    now = of_machine(fitting.store)
    if known.receiver and life is not None and life.ends_utc_ns > now.utc_ns and not given.code:
        said = f"enrolled at {known.receiver} already, certificate until {iso_utc(life.ends_utc_ns)[:10]}"
        return _shown(fitting, item("enrolment", "Enrolment", "pass", said))
    url = talk.ask("[enrolment] url", "Address of the receiver (https://…)", given.url or known.receiver)
    code = talk.ask("[enrolment] code", "One-time code for enrolment", given.code)
    done = enrol(fitting.store, url, code, now, fingerprint=given.fingerprint)
    configuration = fitting.configuration()
    for table, values in done.settings.items():
        configuration.put(table, values)
    configuration.write()
    said = f"{done.device}, certificate until {iso_utc(done.ends_utc_ns)[:10]}, sends to {done.broker}"
    return _shown(fitting, item("enrolment", "Enrolment", "pass", said))
