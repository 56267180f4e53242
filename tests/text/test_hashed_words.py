import pytest
import torch

from videopolicy.errors import UserError
from videopolicy.text.hashed_words import Config


@pytest.fixture
def words():
    return Config(width=8, buckets=64, length=4).build()


def test_there_is_one_token_a_word_and_zeros_after(words):
    tokens = words(["open the drawer", "", "go"])
    assert tokens.shape == (3, 4, 8)
    assert (tokens != 0).any(-1).tolist() == [[True] * 3 + [False], [False] * 4, [True] + [False] * 3]


def test_case_and_punctuation_do_not_matter(words):
    torch.testing.assert_close(words(["Open, the DRAWER!"]), words(["open the drawer"]))


def test_an_accent_is_the_same_however_it_was_typed(words):
    typed_at_once, typed_after = "caf\u00e9 now", "cafe\u0301 now"
    torch.testing.assert_close(words([typed_at_once]), words([typed_after]))
    assert not torch.allclose(words([typed_at_once]), words(["cafe now"]))


def test_the_order_of_words_matters(words):
    first, second = words(["red on green", "green on red"])
    assert not torch.allclose(first, second)
    assert torch.equal(first[1], second[1])


def test_the_bucket_of_a_word_is_its_checksum_in_every_process(words):
    # CRC-32 of "123456789" is its published check value, 0xCBF43926.
    expected = words.words.weight[0xCBF43926 % 64] + words.places[0]
    torch.testing.assert_close(words(["123456789"])[0, 0], expected)


def test_words_and_places_learn_and_padding_does_not(words):
    words(["open"]).square().sum().backward()
    assert (words.words.weight.grad != 0).any(-1).sum() == 1
    assert (words.places.grad != 0).any(-1).tolist() == [True, False, False, False]


def test_an_instruction_that_does_not_fit_is_refused(words):
    with pytest.raises(UserError, match="'put it in the drawer' has 5 words, but the text encoder holds 4"):
        words(["go", "put it in the drawer"])
