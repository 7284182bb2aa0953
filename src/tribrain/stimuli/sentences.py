"""Sentences: where they end in a text, and running text restored from words that came without.

Rules alone, for any script; no model. Spans hold all of a text but the white space between them,
and a sentence taken by itself is found to be one sentence again.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from tribrain.stimuli.words import Word

# Stops that end a sentence wherever they stand, and those that need white space after them.
_HARD = "。｡！？．︒‼⁇⁈⁉।॥؟۔።፧፨։។៕။༎᙮᠃᠉"
_SOFT = ".!?…‥"
_CLOSING = "\"'”’»›)]}」』）］｝】〉》〕〗〛＂＇"
_EITHER = "“‘«‹»›"  # these close in German or Danish what they open elsewhere
_OPENING = "\"'“‘„‚«‹([{「『（［｛【〈《〔〖〚¿¡＂＇"
_COMMAS = ",;:–—，、；：،؛"
# What may follow a quotation in the middle of a Japanese sentence: 「行く。」と言った。
_GOES_ON = "とっなのをはがもにや、，,"

# Han, kana, Thai, Lao, Khmer, Burmese, with the marks that are set as wide as a character.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3000-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff01-\uff0f\uff1a-\uff20\uff3b-\uff3d\uff5b-\uff65\U00020000-\U0003ffff"
)
_IS_UNSPACED = re.compile(f"[{_UNSPACED}]")

# Abbreviations without their last full stop, in lower case. No sentence ends after one of these
# (English ones count in every language without a row) ...
_NEVER = {
    "en": "mr mrs ms messrs mx dr drs prof rev hon st gen capt cpt lt sgt maj cmdr adm gov sen "
    "rep mt e.g i.e cf vs viz approx ca",
    "de": "dr prof hr fr frl st bzw z.b d.h u.a v.a o.ä s.o s.u vgl sog ggf evtl dipl ca inkl exkl",
    "fr": "m mm mme mlle mmes mlles dr pr st ste p.ex m.m cf env",
    "es": "sr sra srta sres dr dra d dña ud uds p.ej prof av",
    "pt": "sr sra dr dra prof profa p.ex av",
    "it": "sig sigg dott ing avv prof on es p.es",
    "nl": "dhr mevr mw dr prof bijv o.a d.w.z ca st",
    "ru": "г-н г-жа т.е т.к т.н напр им ул проф акад тов см ср",
    "hi": "डॉ प्रो श्री",
}
# ... nor after one of these before a figure ...
_BEFORE_FIGURE = frozenset(
    "no nos nr nrn fig figs p pp vol vols ch chap art sec eq eqs abb s bd kap num núm pág рис стр"
    " табл гл".split()
)
# ... and after these, as after initials, only before a word that opens many sentences.
_PERHAPS = frozenset(
    "etc inc ltd co corp bros jr sr esq dept ave blvd rd jan feb apr aug sep sept oct nov dec "
    "ph.d m.d b.a m.a usw usf ff "
    "мин сек тыс млн млрд руб др пр гг вв".split()
)
_OPENERS = frozenset(
    "the a an he she it they we you i this that these those there then but and so in on at when "
    "what why how who if as for after before now no yes my his her our their "
    "der die das er sie es ich wir ihr ein eine dann aber und so im in am wenn was dies diese "
    "le la les il elle ils elles je nous vous un une mais et puis dans ce cette "
    "el los las ella ellos yo una pero y en este esta lo gli io noi ma e questo "
    "de het een hij zij wij maar "
    "он она оно они я мы вы это но и а в на как что когда потом".split()
)
# Languages that write ordinal numbers with a full stop: "am 3. Mai".
_ORDINALS = frozenset("de da nb nn no fi et cs sk hu sl hr sr bs lv is tr pl fo lb".split())


def sentence_spans(text: str, language: str = "en") -> list[tuple[int, int]]:
    """Where the sentences of a text lie.

    A sentence ends at a stop (of any script) and the quotation marks and brackets that close
    after it, or at an empty line. A full stop does not end it after a title, an abbreviation, an
    initial or a list's number, within a number, or before a small letter; "etc.", "U.S." and
    initials end one only before a word that opens many sentences. Case is not looked at in a
    sentence that itself starts with a small letter, as speech recognisers write.

    Parameters
    ----------
    text : str
    language : str
        Two-letter code; it settles ordinal numbers ("am 3. Mai") and the Greek question mark.

    Returns
    -------
    list of (first, last)
        ``text[first:last]`` is a sentence without white space around it; in order, and every
        other character of the text lies in one.
    """
    language = _code(language)
    stops = _HARD + _SOFT + (";\u037e" if language == "el" else "")
    candidates = re.compile(
        rf"[{re.escape(stops)}]+[{re.escape(_CLOSING)}]*(?:[{_EITHER}](?=\s|\Z))?|\n[^\S\n]*\n\s*"
    )
    spans = []
    start = _skip_space(text, 0)
    for found in candidates.finditer(text):
        if found.start() < start:
            continue
        if _ends(text, start, found.group(), found.start(), found.end(), language):
            last = start + len(text[start : found.end()].rstrip())
            if last > start:
                spans.append((start, last))
            start = _skip_space(text, found.end())
    last = start + len(text[start:].rstrip())
    if last > start:
        spans.append((start, last))
    return spans


def _ends(text: str, start: int, marks: str, first: int, last: int, language: str) -> bool:
    """Whether the marks ``text[first:last]`` end the sentence that began at `start`."""
    if marks[0] == "\n":
        return True
    stop = marks.rstrip(_CLOSING + _EITHER)
    closed = len(stop) < len(marks)
    after = _at(text, last)
    if not after:
        return True
    spaced = after.isspace()
    if any(mark in _HARD for mark in stop):
        return spaced or not (after in _GOES_ON if closed else after in _COMMAS)
    if not spaced:
        # Text without spaces may use Western stops; "3.14", "tribrain.org" and "etc.," go on.
        return bool(_IS_UNSPACED.match(after)) and "…" not in stop and after not in _COMMAS
    follows = _skip_opening(text, last)
    cased = not _at(text, _skip_opening(text, start)).islower()
    if cased and _at(text, follows).islower():
        return False
    if _at(text, follows) and text[follows] in _COMMAS:
        # "Go!" - he said; but a dash may also begin what somebody else says.
        spoken = text[follows] in "–—" and _at(text, _skip_opening(text, follows + 1)).isupper()
        if not spoken:
            return False
    if stop != ".":
        return True
    return not _is_short(text[start:first], text[follows : follows + 40], language, cased)


def _is_short(before: str, after: str, language: str, cased: bool) -> bool:
    """Whether the full stop between `before` and `after` belongs to a short form or a number."""
    opener = re.match(r"[^\W\d_]+", after)
    opens = bool(opener and opener.group()[0].isupper() and opener.group().lower() in _OPENERS)
    number = re.search(r"(?:^|[^\w.,])(\d{1,3})$", before)
    if number:
        marker = not before[: number.start(1)].strip(_OPENING)
        return marker or (language in _ORDINALS and cased and not opens)
    short = _last_word(before).lower()
    if not short:
        return False
    if short in _NEVER.get(language, _NEVER["en"]).split():
        return True
    if short in _BEFORE_FIGURE and re.match(r"\d|[IVXLC]+\b", after):
        return True
    initials = all(len(_letters(part)) == 1 for part in short.split("."))
    if not (initials or short in _PERHAPS):
        return False
    return not opens


def _last_word(before: str) -> str:
    """The word at the end, with full stops and spaces within short forms ("z. B" is "z.B")."""
    word = ""
    position = len(before)
    while True:
        begin = position
        while begin and (_is_letter(before[begin - 1]) or before[begin - 1] == "-"):
            begin -= 1
        part = before[begin:position]
        # Only single letters join a short form across its full stops.
        if not part or (word and len(_letters(part)) > 1):
            return word
        if word and len(_letters(word.split(".")[0])) > 1:
            return word
        word = f"{part}.{word}" if word else part
        rest = before[:begin].rstrip(" \u00a0\u202f")
        if not rest.endswith(".") or len(before[:begin]) - len(rest) > 1:
            return word
        position = len(rest) - 1


def _letters(part: str) -> str:
    """Letters alone, without combining marks."""
    return "".join(c for c in part if c.isalpha() and not unicodedata.category(c).startswith("M"))


def _is_letter(char: str) -> bool:
    return char.isalpha() or unicodedata.category(char)[0] == "M"


def _at(text: str, position: int) -> str:
    """The character there, "" past the end."""
    return text[position : position + 1]


def _skip_space(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position


def _skip_opening(text: str, position: int) -> int:
    position = _skip_space(text, position)
    while position < len(text) and text[position] in _OPENING:
        position += 1
    return position


def _code(language: str) -> str:
    return re.split(r"[-_]", language.strip().lower())[0]


def restore_text(words: Sequence[Word], language: str = "en", *, pause: float = 0.6) -> str:
    """Running text from words alone.

    Where the words carry punctuation (on average a mark in every 60 words or more), that is kept
    and nothing is added. Where they do not, a silence of `pause` seconds between two words ends a
    sentence, as does the end, with the full stop of the script ("." or "。", "।", "۔", "።", "։",
    "။", "។"; a space in Thai and Lao). Words stand as they are: no capital is made or taken away.
    They are joined by spaces, except in scripts that have none.

    Parameters
    ----------
    words : sequence of Word
        In order of start.
    language : str
        Two-letter code of their language.
    pause : float
        Seconds. 0.6 is the pause that `tribrain.stimuli.words.spoken_times` gives a full stop;
        hesitation within a clause is mostly shorter (Goldman-Eisler 1968, Psycholinguistics:
        experiments in spontaneous speech).

    Returns
    -------
    str
        Holds every word, in order; `tribrain.stimuli.words.running_text` finds them in it.
    """
    language = _code(language)
    shown = [(word, " ".join(word.text.split())) for word in words]
    shown = [(word, text) for word, text in shown if text]
    marked = sum(bool(_end_mark(text)) for _, text in shown)
    by_pauses = not marked or marked * 60 < len(shown)
    out = ""
    until = 0.0
    for number, (word, text) in enumerate(shown):
        if out:
            paused = by_pauses and word.start - until >= pause - 1e-6
            if paused and not _end_mark(out):
                out += _full_stop(out, language)
            out += _between(out, text)
        out += text
        until = max(until, word.end) if number else word.end
    if out and by_pauses and not _end_mark(out):
        out += _full_stop(out, language)
    return out.rstrip()


def _end_mark(text: str) -> str:
    """The stop or comma at the end of a word, before what closes after it; "" without one."""
    bare = text.rstrip(_CLOSING + _EITHER)
    last = bare[-1:]
    return last if last and len(bare) > 1 and last in _HARD + _SOFT + _COMMAS else ""


def _full_stop(text: str, language: str) -> str:
    """The full stop of the script that the text ends in."""
    letter = next((c for c in reversed(text) if c.isalpha()), "")
    name = unicodedata.name(letter, "") if letter else ""
    if name.startswith(("THAI", "LAO")):
        return " "
    if name.startswith("ARABIC"):
        return "۔" if language == "ur" else "."
    if name.startswith("DEVANAGARI"):
        return "." if language == "mr" else "।"
    for script, stop in _STOPS.items():
        if name.startswith(script):
            return stop
    return "."


_STOPS = {
    "CJK": "。",
    "HIRAGANA": "。",
    "KATAKANA": "。",
    "BENGALI": "।",
    "GURMUKHI": "।",
    "ORIYA": "।",
    "ETHIOPIC": "።",
    "ARMENIAN": "։",
    "MYANMAR": "။",
    "KHMER": "។",
}


def _between(left: str, right: str) -> str:
    """What parts two words: a space, or nothing in scripts that have none."""
    if left[-1].isspace():
        return ""
    if all(c in _HARD + _SOFT + _COMMAS + "”’»)]}" for c in right):  # a mark counted as a word
        return ""
    ends, begins = _IS_UNSPACED.match(left[-1]), _IS_UNSPACED.match(right[0])
    if ends and begins:
        return ""
    # Wide marks carry their own space, whatever stands on their other side.
    if (ends and not left[-1].isalnum() and not _is_letter(left[-1])) or (
        begins and not right[0].isalnum() and not _is_letter(right[0])
    ):
        return ""
    return " "
