from fanout.api.calls import check as check
from fanout.api.calls import plan as plan
from fanout.api.calls import record as record
from fanout.api.calls import run as run
from fanout.api.calls import start as start

API: tuple[str, ...]
__version__: str
