"""The command line: help at once, one sentence for bad input, a folder for each run, and nothing lost to Ctrl-C."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import probae as pa
from probae.cli import explain, main
from probae.commands import markdown, names
from probae.io import read_table, save

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "100"}


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Stand in an empty folder with a table of six columns that a factor model fits."""
    monkeypatch.chdir(tmp_path)
    data = pa.datasets.linear_factors(150, 6, 2, seed=0)
    np.savetxt("people.csv", data.x.numpy(), delimiter=",", header=",".join(data.feature_names), comments="")
    return Path("people.csv")


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "probae", *map(str, arguments)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )


def settings(folder):
    return json.loads((Path(folder) / "settings.json").read_text())


@pytest.mark.parametrize("arguments", [["--help"], ["fit", "--help"], ["audit", "--help"], ["--version"]])
def test_help_comes_at_once(arguments):
    outputs, seconds = [], []
    for _ in range(3):
        start = time.perf_counter()
        outputs.append(run(*arguments))
        seconds.append(time.perf_counter() - start)
    assert {output.returncode for output in outputs} == {0}
    assert "probae" in outputs[0].stdout
    assert outputs[0].stderr == ""
    assert min(seconds) < 1.0  # torch alone takes longer


LIGHT = """
import sys
from probae.cli import main
try:
    main(["fit", "--help"])
except SystemExit:
    pass
print(*({"torch", "numpy", "scipy", "matplotlib", "pyro", "xarray"} & set(sys.modules)), file=sys.stderr)
"""


def test_help_imports_nothing_heavy():
    done = subprocess.run(
        [sys.executable, "-c", LIGHT], env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == ""


def test_help_names_every_choice():
    text = " ".join(run("fit", "--help").stdout.split())
    for word in (
        "DATA",
        "--latents INT",
        "--output FOLDER",
        "fa,ppca,laplace,linear,sparse,ica",
        "student-t:5",
    ):
        assert word in text
    assert "None" not in text


def test_a_fit_from_a_shell(table):
    done = run("fit", table, "--latents", 2, "--output", "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^NOT_IDENTIFIED O\(2\)", done.stdout, re.MULTILINE)
    assert "report: out/report.md" in done.stdout
    bad = run("fit", "nothing.csv", "--latents", 2)
    assert bad.returncode == 2
    assert bad.stderr == "error: nothing.csv could not be read: No such file or directory.\n"


def test_ctrl_c_in_a_shell(table):
    command = [sys.executable, "-m", "probae", "fit", str(table), "--latents", "2", "--method", "svi"]
    command += ["--steps", "10000000", "--output", "out"]
    # a process started in the background would otherwise inherit that Ctrl-C is ignored
    restore = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=ENVIRONMENT, preexec_fn=restore, **pipes) as process:
        deadline = time.monotonic() + 60
        while not Path("out/settings.json").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    # 130 either way to a shell: Python ends by the signal itself if it fell into code that C had started
    assert process.returncode in (130, -signal.SIGINT)
    assert errors.startswith("interrupted")
    assert settings("out")["status"] == "interrupted"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_fit_is_saved_and_marked(number, table, capsys):
    svi = ["fit", str(table), "--latents", "2", "--method", "svi"]
    assert (
        main([*svi, "--steps", "2", "--output", "first"]) == 0
    )  # torch imports much on first use: not to be cut off
    before = signal.signal(number, signal.default_int_handler)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), number))
    timer.start()
    try:
        assert main([*svi, "--steps", "10000000", "--output", "out"]) == 130
    finally:
        timer.cancel()
        signal.signal(number, before)
    assert "marked as interrupted" in capsys.readouterr().err
    partial = pa.load("out")
    assert partial.interrupted
    assert not partial.converged
    assert len(partial.history) > 0
    assert settings("out")["status"] == "interrupted"
    assert "interrupted" in Path("out/report.md").read_text()


def test_a_run_is_a_folder_that_can_be_loaded_and_audited(table, capsys):
    assert main(["fit", str(table), "--latents", "2", "--model", "laplace", "--seed", "4"]) == 0
    said = capsys.readouterr()
    folder = Path("results/people-laplace-2-seed4")
    kept = {file.name for file in folder.iterdir()}
    assert {
        "settings.json",
        "manifest.json",
        "report.md",
        "audit.json",
        "audit.png",
        "loadings.png",
        "rotation.png",
        "scores.png",
    } <= kept
    fit, chosen = pa.load(folder), settings(folder)
    assert fit.names == tuple(f"x{d}" for d in range(1, 7))
    assert (chosen["status"], chosen["seed"], chosen["data"]["path"]) == ("finished", 4, "people.csv")
    page = (folder / "report.md").read_text()
    verdict = json.loads((folder / "audit.json").read_text())["verdict"]
    assert f"**{verdict}**" in page
    assert verdict in said.out
    assert set(re.findall(r"\]\((\w+\.png)\)", page)) == {
        "audit.png",
        "loadings.png",
        "rotation.png",
        "scores.png",
    }
    assert f"pa.load({str(folder)!r})" in page
    for value in fit.model.loadings.flatten().tolist():
        assert f"{value:.4g}" in page

    assert main(["audit", str(folder), "--seed", "4"]) == 0
    assert verdict in capsys.readouterr().out
    table.rename("moved.csv")
    assert main(["audit", str(folder)]) == 2
    assert "not there any more: pass it with --data" in capsys.readouterr().err
    assert main(["audit", str(folder), "--data", "moved.csv", "--output", "elsewhere"]) == 0
    assert Path("elsewhere/report.md").exists()
    Path("people.csv").write_text(Path("moved.csv").read_text() + "0,0,0,0,0,0\n")
    capsys.readouterr()
    assert main(["audit", str(folder)]) == 2
    assert "has changed since" in capsys.readouterr().err


def test_the_report_says_how_to_load_the_run(table, capsys):
    assert main(["fit", str(table), "--latents", "1", "--columns", "x3", "x1", "x5"]) == 0
    page = Path("results/people-fa-1/report.md").read_text()
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    capsys.readouterr()
    exec(compile(code, "report.md", "exec"), {})
    assert "IDENTIFIED_SP" in capsys.readouterr().out
    assert pa.load("results/people-fa-1").names == ("x3", "x1", "x5")


def test_a_table_is_audited_with_two_models(table, capsys):
    assert main(["audit", str(table), "--latents", "2"]) == 0
    folder = Path("results/people-audit-2")
    assert type(pa.load(folder / "gaussian").model) is pa.FactorAnalysis
    assert pa.load(folder / "laplace").model.prior.__class__ is pa.priors.Laplace
    page = (folder / "report.md").read_text()
    for picture in re.findall(r"\]\((\S+\.png)\)", page):
        assert (folder / picture).is_file()
    assert "| gaussian | NOT_IDENTIFIED O(2) |" in page
    assert "NOT_IDENTIFIED O(2)" in capsys.readouterr().out


def test_one_command_gives_one_result(table):
    for place in ("one", "two"):
        assert (
            main(["fit", str(table), "--latents", "2", "--method", "svi", "--steps", "3", "--output", place])
            == 0
        )
    files = [{f.name: f.read_bytes() for f in Path(place).glob("weights-*")} for place in ("one", "two")]
    assert files[0] == files[1]


@pytest.mark.parametrize("method", ["stochastic-em", "variational-em"])
def test_heavy_tailed_factors_are_fitted_by_their_marginal_likelihood(method, table, capsys):
    command = ["fit", str(table), "--model", "laplace", "--latents", "1", "--method", method, "--steps", "4"]
    assert main([*command, "--output", "out"]) == 0
    assert Path("out/report.md").is_file()


@pytest.mark.parametrize("model", ["ppca", "sparse", "ica", "linear"])
def test_every_model_runs(model, table, capsys):
    size = {
        "ica": ["--columns", "x1", "x2", "x3"],
        "sparse": ["--latents", "8", "--method", "map", "--steps", "3"],
    }.get(model, ["--latents", "2"])
    law = ["--prior", "student-t:6"] if model == "linear" else []
    assert main(["fit", str(table), "--model", model, *size, *law, "--output", "out"]) == 0
    assert Path("out/report.md").is_file()
    assert Path("out/loadings.png").stat().st_size > 1000


BAD = {
    "no table": (["fit", "nothing.csv", "--latents", "2"], "nothing.csv could not be read"),
    "a folder": (["fit", ".", "--latents", "2"], "could not be read"),
    "text in a column": (["fit", "text.csv", "--latents", "1"], "'Paris' in column 'town', line 2"),
    "no latents": (["fit", "people.csv"], "needs --latents"),
    "no latents to audit": (["audit", "people.csv"], "needs --latents"),
    "too few latents": (["fit", "people.csv", "--latents", "0"], "at least 1"),
    "unknown column": (["fit", "people.csv", "--latents", "1", "--columns", "x9"], "no column 'x9'"),
    "unknown law": (
        ["fit", "people.csv", "--latents", "1", "--model", "linear", "--prior", "cauchy"],
        "--prior should",
    ),
    "law of a Gaussian model": (
        ["fit", "people.csv", "--latents", "1", "--prior", "laplace"],
        "use --model linear",
    ),
    "numbers of a law": (
        ["fit", "people.csv", "--latents", "1", "--model", "linear", "--prior", "student-t:x"],
        "numbers after a colon",
    ),
    "steps of the wrong method": (
        ["fit", "people.csv", "--latents", "1", "--steps", "3"],
        "--steps goes with",
    ),
    "latents of ica": (["fit", "people.csv", "--model", "ica", "--latents", "9"], "9 latents"),
    "method that cannot": (
        ["fit", "people.csv", "--model", "laplace", "--latents", "1", "--method", "em"],
        "EM is exact",
    ),
    "missing values": (
        ["fit", "gaps.csv", "--model", "laplace", "--latents", "1"],
        "NaN at row 1, column 'b'",
    ),
    "a place with other files": (
        ["fit", "people.csv", "--latents", "1", "--output", "."],
        "choose another --output",
    ),
    "a place that is a file": (["fit", "people.csv", "--latents", "1", "--output", "people.csv"], "a folder"),
    "no such run": (["audit", "nowhere"], "nowhere could not be read"),
    "a folder without a run": (["audit", "empty"], "not a fit that can be loaded"),
    "data for a table": (["audit", "people.csv", "--latents", "1", "--data", "people.csv"], "its own data"),
    "latents for a run": (["audit", "empty", "--latents", "1"], "a run has its own"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_answered_in_one_sentence(case, table, capsys):
    Path("text.csv").write_text("town,a,b\nParis,1,2\nRome,3,4\n")
    Path("gaps.csv").write_text("a,b,c\n1,2,3\n4,,6\n7,8,1\n2,3,9\n")
    Path("empty").mkdir()
    arguments, match = BAD[case]
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    [line] = [line for line in said.err.splitlines() if not line.startswith("note: ")]
    assert line.startswith("error: ")
    assert match in line
    assert not list(Path().glob("**/report.md"))


def test_options_nobody_knows_end_with_code_2(capsys):
    for arguments in (["fit", "a.csv", "--model", "pca"], ["fit", "a.csv", "--nonsense"], ["unknown"], []):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == 2
        assert "Traceback" not in capsys.readouterr().err


def test_a_fault_of_the_program_is_not_hidden(table, monkeypatch):
    monkeypatch.setattr("probae.commands.fitting.fit", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["fit", str(table), "--latents", "1"])
    assert explain(ZeroDivisionError()) is None


def test_missing_values_are_integrated_out(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = pa.datasets.linear_factors(120, 5, 1, seed=2).x.numpy()
    x[3, 2] = x[7, 0] = np.nan
    np.savetxt("gaps.csv", x, delimiter=",")
    assert main(["fit", "gaps.csv", "--latents", "1"]) == 0
    assert "| method | EM |" in Path("results/gaps-fa-1/report.md").read_text()


def test_a_column_that_counts_rows_is_pointed_out(table, capsys):
    lines = table.read_text().splitlines()
    numbered = ["id," + lines[0], *(f"{i},{line}" for i, line in enumerate(lines[1:], 1))]
    table.write_text("\n".join(numbered))
    assert main(["fit", str(table), "--latents", "1"]) == 0
    assert "note: Column 'id' counts the rows" in capsys.readouterr().err


EVIL = ["=cmd()", "<script>alert(1)</script>", "a|b", "![x](http://host/x.png)", "\x1b[31mred", "`code`"]


def test_names_out_of_a_file_do_nothing_in_a_report(table, capsys):
    rows = table.read_text().splitlines()[1:]
    table.write_text("\n".join([",".join(f'"{name}"' for name in EVIL), *rows]))
    assert main(["fit", str(table), "--latents", "2", "--model", "laplace", "--output", "out"]) == 0
    said = capsys.readouterr()
    for text in (Path("out/report.md").read_text(), said.out, said.err):
        assert "\x1b" not in text
    prose = re.sub(r"```.*?```", "", Path("out/report.md").read_text(), flags=re.DOTALL)
    assert "<script" not in prose
    assert "![x]" not in prose
    assert "| =" not in prose
    [line] = [line for line in prose.splitlines() if line.startswith("| a")]
    assert re.sub(r"\\.", "", line).count("|") == 6  # around five cells; the name's own bar is escaped
    assert pa.load("out").names == tuple(EVIL)


def test_a_block_cannot_be_left():
    text = "a\n```\n# heading"
    lines = markdown.block(text).splitlines()
    assert lines[0] == "````text"
    assert lines[-1] == "````"


def test_a_foreign_settings_file_cannot_have_other_files_read(table, tmp_path, capsys):
    save(pa.fit(pa.FactorAnalysis(6, 1), read_table(table)), "foreign")
    Path("secret.csv").write_text("password\nhunter2\n")
    recorded = {"data": {"path": "secret.csv", "absolute": "secret.csv", "sha256": "0" * 64, "columns": []}}
    Path("foreign/settings.json").write_text(json.dumps(recorded))
    assert main(["audit", "foreign"]) == 2
    said = capsys.readouterr()
    assert "hunter2" not in said.out + said.err
    for odd in ("[]", "{", "[" * 100_000, '{"data": 3}', '{"data": {"path": 3}}'):
        Path("foreign/settings.json").write_text(odd)
        assert main(["audit", "foreign"]) == 2
        assert capsys.readouterr().err.startswith("error: ")


def test_info_lists_what_is_installed(capsys):
    assert main(["info"]) == 0
    said = capsys.readouterr().out
    for word in ("probae", "threads", "device", "torch", "safetensors"):
        assert word in said


@pytest.mark.parametrize("name", names.PRIORS)
def test_every_law_has_a_name(name):
    assert isinstance(names.make_prior(name), pa.priors.Prior)


def test_a_closed_pipe_is_no_fault():
    shell = f"{sys.executable} -m probae fit --help | head -n 1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {shell}"], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert "probae fit" in done.stdout
    assert done.stderr == ""
