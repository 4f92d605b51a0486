"""Talking with the device: messages over a link, greeting, arming, who is there, how good the link is."""
