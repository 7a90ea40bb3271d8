"""Tables of ``npu-smi info`` as Ascend's tool prints them: one chip or two per card, and processes without a name."""

from __future__ import annotations

from fanout.agent import smi

LINE = "+===========================+===============+====================================================+\n"
HEAD = (
    "| npu-smi 25.5.2                   Version: 25.5.2                                               |\n"
    "| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|\n"
    "| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |\n"
)
TAIL = "| NPU     Chip              | Process id    | Process name             | Process memory(MB)      |\n"
ONE_CHIP = (
    HEAD
    + LINE
    + "| 5     910B4               | OK            | 89.9        39                0    / 0             |\n"
    + "| 0                         | 0000:41:00.0  | 12          0    / 0          2922 / 32768         |\n"
    + LINE
    + "| 7     910B4               | Alarm         | N/A         44                0    / 0             |\n"
    + "| 0                         | 0000:42:00.0  | 0           0    / 0          30711/ 32768         |\n"
    + LINE
    + TAIL
    + "| No running processes found in NPU 5                                                            |\n"
    + "| 7       0                 | 1333928       |                          | 37709                   |\n"
)
TWO_CHIPS = (
    HEAD
    + "| 0     Ascend910           | OK            | 171.4       41                0    / 0             |\n"
    + "| 0     0                   | 0000:9D:00.0  | 0           0    / 0          3100 / 65536         |\n"
    + "| 0     Ascend910           | OK            | -           40                0    / 0             |\n"
    + "| 1     1                   | 0000:9F:00.0  | 3           0    / 0          2877 / 65536         |\n"
    + TAIL
    + "| 0       1                 | 3328327       | python                   | 50119                   |\n"
)


def test_chips_have_the_order_of_their_lines() -> None:
    chips, processes = smi.parse_npu_info(ONE_CHIP)
    assert [(chip["npu"], chip["name"], chip["health"]) for chip in chips] == [
        ("5", "Ascend 910B4", "OK"),
        ("7", "Ascend 910B4", "Alarm"),
    ]
    assert [(chip["util"], chip["used"], chip["total"], chip["temp"], chip["watts"]) for chip in chips] == [
        (12.0, 2922.0, 32768.0, 39.0, 89.9),
        (0.0, 30711.0, 32768.0, 44.0, None),
    ]
    assert processes == [{"gpu": 1, "pid": 1333928, "used": 37709.0}]


def test_second_chip_of_a_card_is_a_device_of_its_own() -> None:
    chips, processes = smi.parse_npu_info(TWO_CHIPS)
    assert [(chip["npu"], chip["chip"], chip["used"]) for chip in chips] == [("0", "0", 3100.0), ("0", "1", 2877.0)]
    assert processes == [{"gpu": 1, "pid": 3328327, "used": 50119.0}]


def test_text_without_tables_has_no_chips() -> None:
    assert smi.parse_npu_info("DrvMngGetConsoleLogLevel failed. (ret=4)\ndcmi model initialized failed\n") == ([], [])
