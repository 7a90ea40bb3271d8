"""Messages of bash in other languages: lines that bash 5.2 with glibc 2.36 printed, and what they mean in English."""

from __future__ import annotations

import pytest

from fanout.diagnose.signatures import extract_fields, load_builtin
from fanout.diagnose.translations import load_table, translate_line

#: The word of a signal is padded with spaces to a width of 24 columns, and nothing follows a longer one.
KILLED = {
    "zh_CN": "./fg.sh: 第 1 行：28252 已杀死               python3 die.py $1",
    "zh_CN, bash 4": "fg.sh: 行 24: 71232 已杀死               python3 die.py $1",
    "zh_TW": "./fg.sh: 第 1 列：29203 強制結束            python3 die.py $1",
    "ja_JP": "./fg.sh: 1 行: 30177 強制終了            python3 die.py $1",
    "ko_KR": "./fg.sh: 줄 1: 31129 죽었음               python3 die.py $1",
    "de_DE": "./fg.sh: Zeile 1: 32080 Getötet                python3 die.py $1",
    "fr_FR": "./fg.sh : ligne 1 :   654 Processus arrêté      python3 die.py $1",
    "es_ES": "./fg.sh: línea 1:  1678 Terminado (killed)      python3 die.py $1",
    "ru_RU": "./fg.sh: строка 1: 40121 Убито                   python3 die.py $1",
}
CRASHED = {
    "zh_CN": "./fg.sh: 第 1 行：28295 段错误               （核心已转储）python3 die.py $1",
    "zh_CN, bus error": "./fg.sh: 第 1 行：28381 总线错误            （核心已转储）python3 die.py $1",
    "zh_TW": "./fg.sh: 第 1 列：29246 程式記憶體區段錯誤   (核心已傾印)python3 die.py $1",
    "ja_JP": "./fg.sh: 1 行: 30220 Segmentation fault      (コアダンプ) python3 die.py $1",
    "ja_JP without a core": "./fg.sh: 1 行: 30220 Segmentation fault      python3 die.py $1",
    "ja_JP, bus error": "./fg.sh: 1 行: 30306 バスエラー         (コアダンプ) python3 die.py $1",
    "ko_KR": "./fg.sh: 줄 1: 31172 세그멘테이션 오류 (코어 덤프됨) python3 die.py $1",
    "de_DE": "./fg.sh: Zeile 1: 32123 Speicherzugriffsfehler  (Speicherabzug geschrieben) python3 die.py $1",
    "de_DE, wide": "./fg.sh: Zeile 1: 32252 Ungültiger Maschinenbefehl   (Speicherabzug geschrieben) python3 die.py $1",
    "fr_FR": "./fg.sh : ligne 1 :   706 Erreur de segmentation  (core dumped)python3 die.py $1",
    "es_ES": "./fg.sh: línea 1:  1721 Violación de segmento  (`core' generado) python3 die.py $1",
    "English, wide": "./fg.sh: line 1: 25624 Floating point exceptionpython3 die.py $1",
}
ABORTED = {
    "zh_CN": "./fg.sh: 第 1 行：28338 已放弃               （核心已转储）python3 die.py $1",
    "ja_JP": "./fg.sh: 1 行: 30263 中止                  (コアダンプ) python3 die.py $1",
    "ko_KR": "./fg.sh: 줄 1: 31215 중지됨               (코어 덤프됨) python3 die.py $1",
    "de_DE": "./fg.sh: Zeile 1: 32166 Abgebrochen             (Speicherabzug geschrieben) python3 die.py $1",
    "fr_FR": "./fg.sh : ligne 1 :   749 Abandon                 (core dumped)python3 die.py $1",
    "es_ES": "./fg.sh: línea 1:  1764 Abortado                (`core' generado) python3 die.py $1",
}
NOT_FOUND = {
    "zh_CN": "./exec.sh: 行 5: torchrun: 未找到命令",
    "zh_TW": "./exec.sh: 列 5: torchrun：指令找不到",
    "ja_JP": "./exec.sh: 行 5: torchrun: コマンドが見つかりません",
    "ko_KR": "./exec.sh: 줄 5: torchrun: 명령어를 찾을 수 없음",
    "de_DE": "./exec.sh: Zeile 5: torchrun: Kommando nicht gefunden.",
    "fr_FR": "./exec.sh: ligne 5: torchrun : commande introuvable",
    "es_ES": "./exec.sh: línea 5: torchrun: orden no encontrada",
}
NO_FILE = {
    "zh_CN": "./exec.sh: 行 6: ./run.sh: 没有那个文件或目录",
    "zh_TW": "./exec.sh: 列 6: ./run.sh: 沒有此一檔案或目錄",
    "ja_JP": "./exec.sh: 行 6: ./run.sh: そのようなファイルやディレクトリはありません",
    "ko_KR": "./exec.sh: 줄 6: ./run.sh: 그런 파일이나 디렉터리가 없습니다",
    "de_DE": "./exec.sh: Zeile 6: ./run.sh: Datei oder Verzeichnis nicht gefunden",
    "fr_FR": "./exec.sh: ligne 6: ./run.sh: Aucun fichier ou dossier de ce type",
    "fr_FR, bad interpreter": "./bad.sh: ligne 1: ./run.sh\u00a0: ne peut exécuter\u00a0: le fichier requis n'a pas été trouvé",
    "es_ES": "./exec.sh: línea 6: ./run.sh: No existe el fichero o el directorio",
}
DENIED = {
    "zh_CN": "./exec.sh: 行 7: ./run.sh: 权限不够",
    "zh_TW": "./exec.sh: 列 7: ./run.sh: 拒絕不符權限的操作",
    "ja_JP": "./exec.sh: 行 7: ./run.sh: 許可がありません",
    "ko_KR": "./exec.sh: 줄 7: ./run.sh: 허가 거부",
    "de_DE": "./exec.sh: Zeile 7: ./run.sh: Keine Berechtigung",
    "fr_FR": "./exec.sh: ligne 7: ./run.sh: Permission non accordée",
    "es_ES": "./exec.sh: línea 7: ./run.sh: Permiso denegado",
}
STOPPED = {
    "zh_CN": "./fg.sh: 第 1 行：28338 已终止               python3 die.py $1",
    "de_DE": "./fg.sh: Zeile 1: 32166 Beendet                 python3 die.py $1",
    "a job": "[1]   2047 Beendet                 python3 die.py $1",
}
EXPECTED = {
    "shell-killed": KILLED, "shell-crashed": CRASHED, "shell-aborted": ABORTED, "shell-terminated": STOPPED, "no-command": NOT_FOUND,
    "shell-no-file": NO_FILE, "shell-not-executable": DENIED,
}  # fmt: skip
LINES = [(name, language, line) for name, lines in EXPECTED.items() for language, line in lines.items()]


@pytest.mark.parametrize(("name", "language", "line"), LINES, ids=[f"{name} {language}" for name, language, _ in LINES])
def test_a_message_of_bash_has_one_meaning_in_every_language(name: str, language: str, line: str) -> None:
    book = load_builtin()
    assert book.may_match(line.encode() + b"\n")
    found = book.match_line(line)
    assert found is not None
    assert found[0].id == name
    values = extract_fields(found[1]).values()
    assert any(word in values for word in ("python3 die.py $1", "torchrun", "./run.sh"))


def test_a_message_that_is_a_part_of_another_is_not_translated_before_it() -> None:
    words = load_table().words
    for place, word in enumerate(words):
        assert not any(word in later for later in words[place + 1 :])


@pytest.mark.parametrize(
    "line",
    [
        "第 12 轮：训练损失 2.31，已完成 50%",
        "エポック 3: 損失 2.31",
        "step 12 loss 2.31",
        "Zeile 12: 3 Batches geladen",
        "réseau prêt, 12 étapes",
        "Beendet",
        "Terminado",
        "Завершено",
        "Complété",
    ],
)
def test_an_ordinary_line_in_another_language_is_no_error(line: str) -> None:
    found = load_builtin().match_line(line)
    assert found is None or found[0].role == "noise"


def test_an_english_line_is_not_changed() -> None:
    line = "./fg.sh: line 1: 25413 Killed                  python3 die.py $1"
    assert translate_line(line) == line
