from controlnext.starter.scenes import known


def test_words_are_counted_whatever_their_case_and_punctuation():
    found = known.count_known(["A Woman, in a red coat!", "", "a woman astride a griffin", "-- ..."])
    assert (found.prompts, found.whole) == (2, 1)
    assert found.known["woman"] == 2
    assert found.unknown == {"astride": 1, "griffin": 1}
    assert found.share == 9 / 11


def test_no_words_are_no_share():
    assert known.count_known([]).share == 0


def test_the_command_prints_shares_and_what_is_unknown(tmp_path, capsys):
    (tmp_path / "prompts.txt").write_text("a griffin\na woman\na griffin\n", encoding="utf-8")
    assert known.main([str(tmp_path / "prompts.txt")]) == 0
    text = capsys.readouterr().out
    assert "4 of 6 words known (0.667)" in text
    assert "1 of 3 prompts" in text
    assert "griffin (2)" in text
