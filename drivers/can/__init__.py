"""Live CAN: wires that give frames in batches (SocketCAN, slcan, python-can), and what may be sent on them."""
