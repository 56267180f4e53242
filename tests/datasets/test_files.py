from videopolicy.datasets.files import visible


def test_files_below_and_behind_links_are_found_once_a_link_without_going_round_for_ever(tmp_path):
    folder, elsewhere = tmp_path / "set", tmp_path / "elsewhere"
    for file in (folder / "b.MP4", folder / "deep" / "c.mp4", folder / "deep" / "c.txt", elsewhere / "d.mp4"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (folder / "a").symlink_to(elsewhere)
    (folder / "deep" / "up").symlink_to(folder)
    (elsewhere / "round").symlink_to(elsewhere)
    (folder / "self").symlink_to(folder / "self")
    (folder / "gone.mp4").symlink_to(tmp_path / "nothing.mp4")
    (folder / "._b.mp4").touch()
    (folder / ".cache").mkdir()
    (folder / ".cache" / "e.mp4").touch()
    found = [file.relative_to(folder).as_posix() for file in visible(folder, (".mp4",))]
    assert found == ["a/d.mp4", "b.MP4", "deep/c.mp4", "gone.mp4"]


def test_a_folder_that_is_called_like_a_file_stands_in_its_place_if_no_such_file_is_in_it(tmp_path):
    (tmp_path / "lost.mp4").mkdir()
    (tmp_path / "lost.mp4" / "note.txt").touch()
    (tmp_path / "run.mp4").mkdir()
    (tmp_path / "run.mp4" / "part.mp4").touch()
    found = [file.relative_to(tmp_path).as_posix() for file in visible(tmp_path, (".mp4",))]
    assert found == ["lost.mp4", "run.mp4/part.mp4"]
    assert [file.name for file in visible(tmp_path)] == ["note.txt", "part.mp4"]
