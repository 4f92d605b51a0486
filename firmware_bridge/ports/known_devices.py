"""USB devices that are, or commonly sit in front of, a microcontroller's serial port: for `list`, and nothing else.

The numbers are the vendors' own, as the USB ID repository lists them (usb.ids).
"""

_PRODUCTS: dict[tuple[int, int], str] = {
    (0x0403, 0x6001): "FTDI FT232R",
    (0x0403, 0x6010): "FTDI FT2232",
    (0x0403, 0x6011): "FTDI FT4232",
    (0x0403, 0x6014): "FTDI FT232H",
    (0x0403, 0x6015): "FTDI FT-X",
    (0x0483, 0x374A): "ST-LINK/V2-1",
    (0x0483, 0x374B): "ST-LINK/V2-1",
    (0x0483, 0x3752): "ST-LINK/V2-1",
    (0x0483, 0x374E): "ST-LINK/V3",
    (0x0483, 0x374F): "ST-LINK/V3",
    (0x0483, 0x3753): "ST-LINK/V3",
    (0x0483, 0x3754): "ST-LINK/V3",
    (0x0483, 0x5740): "STM32 virtual serial port",
    (0x0D28, 0x0204): "DAPLink",
    (0x10C4, 0xEA60): "CP210x",
    (0x10C4, 0xEA70): "CP2105",
    (0x10C4, 0xEA71): "CP2108",
    (0x1A86, 0x5523): "CH341",
    (0x1A86, 0x7522): "CH340",
    (0x1A86, 0x7523): "CH340",
    (0x1A86, 0x55D3): "CH343",
    (0x1A86, 0x55D4): "CH9102",
}
_VENDORS: dict[int, str] = {0x1366: "SEGGER J-Link", 0x2341: "Arduino", 0x2A03: "Arduino", 0x2E8A: "Raspberry Pi"}
# In the names that udev makes from a device's own strings (/dev/serial/by-id/usb-...).
_WORDS: dict[str, str] = {
    "stlink": "ST-LINK",
    "st-link": "ST-LINK",
    "stm32": "STM32",
    "daplink": "DAPLink",
    "cmsis-dap": "CMSIS-DAP",
    "arduino": "Arduino",
    "j-link": "SEGGER J-Link",
    "ftdi": "FTDI",
    "cp210": "CP210x",
}


def controller_kind(vendor: int | None, product: int | None, stable_name: str) -> str:
    """What kind of controller's port this probably is; "" where nothing says so."""
    if vendor is not None and product is not None:
        known = _PRODUCTS.get((vendor, product)) or _VENDORS.get(vendor)
        if known:
            return known
    name = stable_name.lower()
    return next((kind for word, kind in _WORDS.items() if word in name), "")
