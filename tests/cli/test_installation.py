"""Distribution: sdist and wheel build and are valid, and the wheel alone works in a bare environment."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from fanout import __version__
from tests.agent.agents import list_pythons
from tests.sources import ROOT

pytestmark = [pytest.mark.process, pytest.mark.timeout(400)]


def run_command(*words: str | Path, cwd: Path, environ: dict[str, str] | None = None) -> str:
    """Run a command that must succeed; return its output."""
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env=environ, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the sdist and the wheel of this checkout, built from a clean copy."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    files = run_command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\0")
    for name in filter(None, files):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    run_command(sys.executable, "-m", "build", "--outdir", target, source, cwd=source)
    return target


def test_distributions_are_valid_and_named_fanout_launcher(distributions: Path) -> None:
    names = sorted(path.name for path in distributions.iterdir())
    assert names == [f"fanout_launcher-{__version__}-py3-none-any.whl", f"fanout_launcher-{__version__}.tar.gz"]
    run_command(sys.executable, "-m", "twine", "check", "--strict", *distributions.iterdir(), cwd=distributions)


def test_wheel_has_every_file_of_the_package(distributions: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    tracked = run_command("git", "ls-files", "fanout", cwd=ROOT).split()
    names = set(zipfile.ZipFile(wheel).namelist())
    assert not [name for name in tracked if (ROOT / name).is_file() and name not in names]


def test_sdist_has_the_license_and_the_readme(distributions: Path) -> None:
    (sdist,) = distributions.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml", "fanout/agent/relay.py"} <= names


def find_launcher_pythons() -> list[str]:
    """Return the oldest and the newest Python that can run the launcher."""
    versions = {}
    for path in list_pythons():
        text = run_command(path, "-c", "import sys; print(*sys.version_info[:2])", cwd=ROOT)
        major, minor = map(int, text.split())
        if (major, minor) >= (3, 10):
            versions[(major, minor)] = str(path)
    return sorted({versions[min(versions)], versions[max(versions)]})


def test_wheel_works_in_a_bare_environment(distributions: Path, tmp_path: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    (tmp_path / "hosts.txt").write_text("gpu01 slots=2\ngpu02 slots=2\n")
    (tmp_path / "train.py").write_text("")
    for number, python in enumerate(find_launcher_pythons()):
        venv = tmp_path / f"venv{number}"
        run_command(python, "-m", "venv", venv, cwd=tmp_path)
        run_command(
            venv / "bin/pip",
            "install",
            "-q",
            "--disable-pip-version-check",
            "-c",
            ROOT / "constraints.txt",
            wheel,
            cwd=tmp_path,
        )
        environ = {"PATH": f"{venv}/bin:/usr/bin:/bin", "HOME": str(tmp_path)}
        version = run_command("fanout", "--version", cwd=tmp_path, environ=environ)
        assert version.startswith(f"fanout {__version__} ({venv.resolve()}/lib/")
        assert "warning" not in version
        plan = run_command("fanout", "run", "--dry-run", "hosts.txt", "train.py", cwd=tmp_path, environ=environ)
        assert "--node-rank=1" in plan
        hello = run_command("fanout", "demo", "--hello", cwd=tmp_path, environ=environ)
        assert "the sum of all ranks is 1 over 2 ranks: right" in hello
        assert not (tmp_path / ".demo").exists()
