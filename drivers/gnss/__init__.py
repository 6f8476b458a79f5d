"""What the satellite driver is made of: gpsd's messages, their time on our clock, and what they say of the sky."""
