"""The type checker that enforces signatures under test: beartype, for which an int may stand where a float is meant."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
