"""The device: plants, firmware, the wire's definition, and simulators of both."""
