import pytest
from tests.report.samples import evaluation

from videopolicy.cli.main import main

pytestmark = pytest.mark.slow


def test_the_report_is_written_where_asked(tmp_path, capsys):
    run = evaluation(tmp_path / "run", {"push": [True]})
    main(["report", str(run)])
    assert capsys.readouterr().out.strip() == str(run / "report.html")
    main(["report", str(run), "--out", str(tmp_path / "web" / "index.html")])
    # The command that makes it again is the same; nothing else on the page depends on where it is written.
    assert (tmp_path / "web" / "index.html").read_bytes() == (run / "report.html").read_bytes()


def test_a_run_that_was_never_evaluated_is_one_line_and_exit_code_2(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["report", str(tmp_path)])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "holds no evaluation" in error and "videopolicy evaluate" in error


def test_the_folder_of_an_evaluation_will_do_and_its_commands_name_it(tmp_path, capsys):
    folder = evaluation(tmp_path / "run", {"push": [True]}) / "evaluation"
    main(["report", str(folder)])
    assert capsys.readouterr().out.strip() == str(folder / "report.html")
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert f"--out {folder}\n" in text and f"videopolicy report {folder}<" in text
