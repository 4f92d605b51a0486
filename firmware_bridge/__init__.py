"""Connect a policy on a PC with a controller over a serial link."""
