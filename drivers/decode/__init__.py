"""From CAN frames to channels: a DBC compiled into tables, a kernel that decodes batches, profiles for channels."""
