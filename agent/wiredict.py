"""The text that both ends prime zstd with: one JSON body of every kind, the most frequent last.

It is part of protocol version 1: changing a byte of it makes old messages unreadable, so it is never changed, only
followed by another one under another version.
"""

from typing import Final

DICTIONARY: Final = (
    b'{"dlat_e7":[481000000],"dlon_e7":[115000000],"dt_ms":[0,1000],"error_m":5.0,"speed_cmps":[-1,1390],"start_ns'
    b'":100000000000,"trip_start_ns":100000000000}'
    b'{"counts":{},"detail":"no frames for 10 s","source":"canbus:can0","state":"lost","t_ns":1}'
    b'{"counts":{},"detail":"no fix","source":"gps","state":"degraded","t_ns":1}'
    b'{"counts":{},"detail":"","source":"store","state":"ok","t_ns":1}'
    b'{"confidence":0.9,"forward":[0.0,-1.0,0.0],"gravity":[0.0,0.0,1.0],"t_ns":1}'
    b'{"offset_ns":1790000000000000000,"quality":"gnss","t_ns":123400000000,"uncertainty_ns":50000000}'
    b'{"distance_by_source_m":{"can":12001.0,"gnss":11990.0,"obd":12010.0,"wheel":12000.0},"distance_m":12000.5,"e'
    b'nd_latitude":48.2,"end_longitude":11.6,"end_ns":1900000000000,"event_counts":{"harsh_acceleration.minor":1,"'
    b'harsh_braking.moderate":2,"harsh_braking.unconfirmed":1,"harsh_cornering.severe":1,"idling.minor":1,"speedin'
    b'g.minor":1},"hour_of_day_s":[0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0'
    b',0.0,0.0,0.0,0.0],"idle_s":300.0,"max_speed_mps":25.1,"moving_s":1500.0,"night_s":0.0,"quality":{"gap_s":0.0'
    b',"longest_gap_s":0.0,"mount_confidence":0.95,"position_share":0.99,"speed_share":{"can":1.0,"gnss":0.98,"imu'
    b'":0.9,"obd":0.97,"wheel":1.0},"time":"gnss"},"smoothness_mps2":0.8,"speed_histogram_s":[0.0,0.0,0.0,0.0,0.0,'
    b'0.0],"start_latitude":48.1,"start_longitude":11.5,"start_ns":100000000000,"stops":4,"track_error_m":5.0,"tra'
    b'ck_points":200}'
    b'{"confirmed":true,"duration_ns":900000000,"kind":"over_rev","latitude":48.12,"longitude":11.5,"peak":-4.2,"r'
    b'ule":"harsh_braking/1","severity":"moderate","sources":["can","gnss","imu","obd","wheel"],"speed_before_mps"'
    b':14.2,"t_ns":123400000000,"trip_t_ns":100000000000,"unit":"rpm","window":null}'
    b'{"confirmed":true,"duration_ns":900000000,"kind":"fatigue","latitude":48.12,"longitude":11.5,"peak":-4.2,"ru'
    b'le":"harsh_braking/1","severity":"moderate","sources":["can","gnss","imu","obd","wheel"],"speed_before_mps":'
    b'14.2,"t_ns":123400000000,"trip_t_ns":100000000000,"unit":"s","window":null}'
    b'{"confirmed":true,"duration_ns":900000000,"kind":"device_moved","latitude":48.12,"longitude":11.5,"peak":-4.'
    b'2,"rule":"harsh_braking/1","severity":"moderate","sources":["can","gnss","imu","obd","wheel"],"speed_before_'
    b'mps":14.2,"t_ns":123400000000,"trip_t_ns":100000000000,"unit":"m/s2","window":null}'
    b'{"confirmed":false,"duration_ns":900000000,"kind":"idling","latitude":null,"longitude":null,"peak":-4.2,"rul'
    b'e":"idling/1","severity":"minor","sources":[],"speed_before_mps":null,"t_ns":123400000000,"trip_t_ns":null,"'
    b'unit":"s","window":null}'
    b'{"confirmed":true,"duration_ns":900000000,"kind":"speeding","latitude":48.12,"longitude":11.5,"peak":-4.2,"r'
    b'ule":"speeding/1","severity":"severe","sources":["can","gnss","imu","obd","wheel"],"speed_before_mps":14.2,"'
    b't_ns":123400000000,"trip_t_ns":100000000000,"unit":"m/s","window":null}'
    b'{"confirmed":true,"duration_ns":900000000,"kind":"harsh_cornering","latitude":48.12,"longitude":11.5,"peak":'
    b'-4.2,"rule":"harsh_cornering/1","severity":"moderate","sources":["can","gnss","imu","obd","wheel"],"speed_be'
    b'fore_mps":14.2,"t_ns":123400000000,"trip_t_ns":100000000000,"unit":"m/s2","window":{"lateral_mps2":[0.05,nul'
    b'l],"longitudinal_mps2":[-0.12,-3.5,null],"speed_mps":[13.9,13.71,null],"start_ns":123400000000}}'
    b'{"confirmed":true,"duration_ns":900000000,"kind":"harsh_acceleration","latitude":48.12,"longitude":11.5,"pea'
    b'k":-4.2,"rule":"harsh_acceleration/1","severity":"moderate","sources":["can","gnss","imu","obd","wheel"],"sp'
    b'eed_before_mps":14.2,"t_ns":123400000000,"trip_t_ns":100000000000,"unit":"m/s2","window":{"lateral_mps2":[0.'
    b'05,null],"longitudinal_mps2":[-0.12,-3.5,null],"speed_mps":[13.9,13.71,null],"start_ns":123400000000}}'
    b'{"confirmed":true,"duration_ns":900000000,"kind":"harsh_braking","latitude":48.12,"longitude":11.5,"peak":-4'
    b'.2,"rule":"harsh_braking/1","severity":"moderate","sources":["can","gnss","imu","obd","wheel"],"speed_before'
    b'_mps":14.2,"t_ns":123400000000,"trip_t_ns":100000000000,"unit":"m/s2","window":{"lateral_mps2":[0.05,null],"'
    b'longitudinal_mps2":[-0.12,-3.5,null],"speed_mps":[13.9,13.71,null],"start_ns":123400000000}}'
)
