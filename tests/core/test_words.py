"""What profanity words do to a body."""

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.words import HITS_MAX, Blocked, Lexicon, Word, folded
from tests.turns import calls


def lexicon(**words: str) -> Lexicon:
    return Lexicon([Word(text, replacement) for text, replacement in words.items()])


def cleaned(words: Lexicon, body: Any) -> Any:
    return json.loads(words.clean(json.dumps(body).encode()))


def test_what_contains_no_word_passes_byte_for_byte() -> None:
    body = b'{ "a" : "fine\\u0021", "n": 1.50e+2, "a": [true ,null] }'
    assert lexicon(bad="***").clean(body) is body
    assert Lexicon().clean(body) is body


def test_a_word_without_a_replacement_blocks() -> None:
    for body in (b'"so bad"', b'{"a":["x",{"b":"BAD"}]}', b'"\\u0062\\u0061\\u0064"', b'{"a":"\\n","b":"bad"}'):
        with pytest.raises(Blocked):
            lexicon(bad="").clean(body)


def test_replacing_changes_the_strings_concerned_and_nothing_else() -> None:
    body = b'{ "bad": "a Bad\\n\\u0042AD day", "n": 1.50e+2, "bad": ["b\\u0061d\\"", 12345678901234567890] }'
    expected = b'{ "bad": "a ***\\n*** day", "n": 1.50e+2, "bad": ["***\\"", 12345678901234567890] }'
    assert lexicon(bad="***").clean(body) == expected


def test_a_replacement_is_written_as_json_whatever_it_contains() -> None:
    assert cleaned(lexicon(bad='"\\\n}ü'), {"a": "x bad y"}) == {"a": 'x "\\\n}ü y'}


def test_keys_numbers_and_what_only_looks_like_a_string_are_left_alone() -> None:
    words = lexicon(bad="", true="", **{"12": ""})
    for body in (b'{"bad":1}', b'{"bad" : "x"}', b"true", b"[12]", b'{"a":12,"b":true}'):
        assert words.clean(body) is body


def test_the_longest_word_counts() -> None:
    words = lexicon(bad="", badminton="a sport")
    assert cleaned(words, "Badminton!") == "a sport!"
    with pytest.raises(Blocked):
        words.clean(b'"bad badminton"')


def test_what_replacing_leaves_behind_may_be_blocked() -> None:
    with pytest.raises(Blocked):
        lexicon(xx="a", bad="").clean(b'"bxxd"')


def test_case_is_that_of_unicode_and_lengths_stay() -> None:
    words = lexicon(Ärger="*", ΟΔΟΣ="street", İx="i")
    assert cleaned(words, "äRGER οδος ΟΔΟΣ") == "* street street"
    # The lower case of the dotted I has two characters: what stands behind it is still cut at the right place.
    assert cleaned(words, "İİ ärger İx") == "İİ * i"
    assert len(folded("İßẞǅ😀")) == 5
    assert cleaned(words, "😀ärger😀") == "😀*😀"


def test_a_body_with_too_many_hits_is_blocked_and_not_searched_on() -> None:
    words = lexicon(a="b")
    body = b'"%b"' % (b"a" * HITS_MAX)
    assert words.clean(body) == b'"%b"' % (b"b" * HITS_MAX)
    with pytest.raises(Blocked):
        words.clean(b'"%b"' % (b"a" * (HITS_MAX + 1)))


def test_every_character_is_folded_to_one() -> None:
    def alone(character: str) -> str:
        kinds = (character.casefold(), character.lower(), character)
        return next(kind for kind in kinds if len(kind) == 1)

    # Of half a surrogate pair there is no text.
    every = "".join(map(chr, (*range(0xD800), *range(0xE000, sys.maxunicode + 1))))
    assert folded(every) == "".join(map(alone, every))


def test_words_are_found_within_strings_and_not_across_them() -> None:
    words = lexicon(ab="*", **{'a","b': "+", "a\0b": "-"})
    body = b'{"k\\n":["a","b","a\\",\\"b","\\\\ab","a\\u0000b\\\\\\"ab"],"ab" : 1}'
    assert words.clean(body) == b'{"k\\n":["a","b","+","\\\\*","-\\\\\\"*"],"ab" : 1}'


@pytest.mark.parametrize(
    "body",
    [
        b'"%b\\n"' % ("\u4e2d\u6587\u00df\U0001f600" * 11_000).encode(),
        b"[%b1]" % (b'"\\n",' * 26_000),
        b"[%b1]" % (b'"\\na",' * (HITS_MAX // 2) + b'"\\n",' * 20_000),
    ],
)
def test_the_largest_bodies_do_not_hold_up_the_others(body: bytes) -> None:
    words = Lexicon([Word("a", "*"), Word("\u4e2d\u4e2d"), *(Word(f"word {number}") for number in range(1000))])
    assert len(body) > 100_000
    # 20 to 200 calls for bodies without a hit, whatever the number of their strings, and 42 for each hit of the last.
    assert calls(lambda: words.clean(body)) < (30 * HITS_MAX if b"a" in body else 1000)


def slowly(words: dict[str, str], text: str) -> str:
    """The same by hand: at each place the longest word that stands there."""
    out, at = "", 0
    while at < len(text):
        here = max((word for word in words if text.lower().startswith(word, at)), key=len, default=None)
        out += words[here] if here else text[at]
        at += len(here) if here else 1
    return out


small = st.text(alphabet="abB", min_size=1, max_size=4)


@given(
    st.dictionaries(small.map(str.lower), st.sampled_from(["*", "xy", "Ü"]), max_size=5),
    st.text('abcAB\\"é', max_size=12),
)
def test_it_agrees_with_a_search_by_hand(words: dict[str, str], text: str) -> None:
    assert cleaned(lexicon(**words), {"k": [text]}) == {"k": [slowly(words, text)]}
    assert json.loads(lexicon(**words).clean(json.dumps(text, ensure_ascii=False).encode())) == slowly(words, text)
