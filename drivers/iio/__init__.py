"""What the IMU driver is made of: the kernel's IIO scan format, and a device's attributes in sysfs."""
