"""Units of length in headers, in millimetres."""

_NAMES = {
    1.0: "mm millimeter millimeters millimetre millimetres",
    10.0: "cm centimeter centimeters centimetre centimetres",
    1000.0: "m meter meters metre metres",
    1e-3: "um µm μm micron microns micrometer micrometers micrometre micrometres",
    1e-6: "nm nanometer nanometers nanometre nanometres",
}
_MM = {name: factor for factor, names in _NAMES.items() for name in names.split()}
# What programs write where they do not know.
_UNSAID = ("", "?", "unknown", "???", "none")


def millimetres(unit: str) -> float | None:
    """How many millimetres a unit is; 1 where a header leaves it out, as all programs read it; None: no length."""
    name = unit.strip().strip('"').strip().lower()
    return 1.0 if name in _UNSAID else _MM.get(name)
