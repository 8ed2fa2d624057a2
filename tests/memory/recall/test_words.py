import threading

import pytest

from recollect_server.memory.recall.words import asking, stem, terms, words


def test_inflections_share_a_stem() -> None:
    assert terms(words("hiking hiked hikes")) == ["hike"] * 3


def test_irregular_forms_share_the_stem_of_their_base() -> None:
    assert stem("bought") == stem("buy")
    assert stem("children") == stem("child")


def test_a_possessive_is_the_word_itself() -> None:
    assert terms(words("Ana’s sister's car")) == ["ana", "sister", "car"]


def test_question_and_stop_words_carry_no_topic() -> None:
    assert terms(words("What did you say about the piano?")) == ["piano"]


def test_case_width_and_accents_do_not_matter() -> None:
    assert words("CAFÉ ｃａｆé cafe") == ["cafe"] * 3


def test_numbers_stay_whole() -> None:
    assert words("3.5 km in 2,000 steps, 7th") == ["3.5", "km", "in", "2,000", "steps", "7th"]


@pytest.mark.parametrize(
    ("text", "part"),
    [("我昨天买了一只猫", "猫"), ("東京タワーに行った", "東京"), ("ฉันชอบกาแฟดำ", "กาแ")],
)
def test_a_word_inside_an_unspaced_run_is_found(text: str, part: str) -> None:
    assert set(words(part)[:2]) <= set(words(text))


@pytest.mark.parametrize("text", ["हिन्दी", "தமிழ்", "שָׁלוֹם"])
def test_vowel_signs_do_not_split_words(text: str) -> None:
    assert len(words(text)) == 1


def test_russian_inflections_share_a_stem() -> None:
    assert stem("собака") == stem("собаки")


def test_a_text_without_words_has_none() -> None:
    assert words("… 🙂 —") == []


def test_threads_stem_alike() -> None:
    vocabulary = [f"{base}ing{i}" for i in range(40) for base in ("walk", "paint", "climb")]
    expected = [stem.__wrapped__(word) for word in vocabulary]
    found: list[list[str]] = []

    def work() -> None:
        found.append([stem.__wrapped__(word) for word in vocabulary])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 4


def test_a_question_asks() -> None:
    assert 0.5 < asking("That is nice. How was the trip to the lake?") < 1
    assert asking("你好吗？") == 1


def test_a_statement_does_not_ask() -> None:
    assert not asking("How was it? I loved every minute of it.")
    assert not asking("")


def test_a_long_story_that_ends_in_a_short_question_hardly_asks() -> None:
    story = "I adopted a greyhound called Comet last spring, and he sleeps on the sofa all day. "
    assert 0 < asking(story * 3 + "Any tips?") < 0.05
