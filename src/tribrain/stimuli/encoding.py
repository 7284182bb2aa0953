"""Text files of any encoding: as they say themselves, or as their words tell."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from tribrain.errors import InputError
from tribrain.files import one_line, require_file

# The longer marks first: that of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Code pages of one byte a character, and the languages written in them (codes of wordfreq).
_CODE_PAGES = {
    "cp1252": "fr de es pt it nl sv da nb fi ca is",
    "cp1250": "pl cs hu sk ro sl sh",
    "cp1251": "ru uk bg mk",
    "koi8_r": "ru",
    "cp1253": "el",
    "cp1254": "tr",
    "cp1255": "he",
    "cp1256": "ar fa ur",
    "cp1257": "lt lv",
}
_SEVERAL_BYTES = ("gb18030", "big5", "cp932", "euc_jp", "cp949")
_SAMPLE = 200  # words that are looked up


def read_any_text(path: str | Path, what: str) -> tuple[str, list[str]]:
    """Read a text file whatever its encoding.

    A byte-order mark decides; without one, `text_encoding` does.

    Parameters
    ----------
    path : path
    what : str
        What the file is, for messages, such as "transcript".

    Returns
    -------
    text : str
        Line ends as they stand, without the byte-order mark.
    notes : list of str
        That the encoding was guessed, if it was.

    Raises
    ------
    InputError
        A file that is missing, or holds bytes that are not text.
    """
    path = require_file(path, what)
    data = path.read_bytes()
    name = one_line(path.name)
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            try:
                return _checked(data[len(mark) :].decode(encoding), name, what), []
            except UnicodeDecodeError:
                raise InputError(
                    f"{what} {name} begins as {encoding.upper()} text and does not go on so; "
                    "save it as UTF-8"
                ) from None
    encoding, notes = text_encoding(data, name, what)
    return _checked(data.decode(encoding), name, what), notes


def text_encoding(data: bytes, name: str, what: str) -> tuple[str, list[str]]:
    """Encoding of bytes without a byte-order mark: UTF-8 if it can be; else it is guessed.

    It is UTF-16 if every other byte is zero; else the code page in which most of the words
    with other than plain letters are words of a language that it serves (`wordfreq`); else what
    `charset_normalizer` finds.

    Returns
    -------
    encoding : str
        One that decodes all the bytes.
    notes : list of str
        If it was guessed, that, and words to judge it by.

    Raises
    ------
    InputError
        If no encoding fits.
    """
    try:
        if "\0" not in data.decode("utf-8"):
            return "utf-8", []
    except UnicodeDecodeError:
        pass
    guess = _without_mark(data) or _code_page(data) or _detected(data) or "utf-8"
    try:
        text = data.decode(guess)
    except UnicodeDecodeError:
        raise InputError(
            f"{what} {name} is not text in an encoding that can be told; save it as UTF-8"
        ) from None
    shown = list(dict.fromkeys(re.findall(r"\w*[^\W\x00-\x7f]\w*", text)))[:3]
    words = f" (its words then read {', '.join(shown)})" if shown else ""
    return guess, [
        f"{name} is not UTF-8; by its letters it was read as {guess}{words}; "
        "if they are wrong, save it as UTF-8"
    ]


def _checked(text: str, name: str, what: str) -> str:
    if "\0" in text:
        raise InputError(f"{what} {name} holds bytes that are not text; save it as UTF-8")
    return text


def _without_mark(data: bytes) -> str | None:
    """UTF-16 where every other byte of most characters is zero, as in Latin letters and figures."""
    even, odd = data[::2].count(0), data[1::2].count(0)
    if max(even, odd) < len(data) / 4 or len(data) % 2:
        return None
    return "utf-16-be" if even > odd else "utf-16-le"


def _code_page(data: bytes) -> str | None:
    """The code page in which most words are known, or None where half of them are not."""
    from wordfreq import get_frequency_dict

    parts = re.findall(rb"[A-Za-z'\x80-\xff]*[\x80-\xff][A-Za-z'\x80-\xff]*", data)[:_SAMPLE]
    best, best_score = None, 0.0
    for encoding, languages in _CODE_PAGES.items():
        try:
            words = " ".join(part.decode(encoding) for part in parts).casefold()
            data.decode(encoding)
        except UnicodeDecodeError:
            continue
        found = [word for word in re.findall(r"[^\W\d_]+", words) if not word.isascii()]
        letters = sum(map(len, found))
        for language in languages.split() if found else ():
            known = get_frequency_dict(language, "small")
            # Single letters are words in many languages, and what bytes of other codes turn into.
            score = sum(len(w) for w in found if len(w) > 1 and w in known) / letters
            # A small difference must not overrule the more usual page, which comes first.
            if score > best_score + 1e-9:
                best, best_score = encoding, score
    return best if best_score > 0.5 else None


def _detected(data: bytes) -> str | None:
    from charset_normalizer import from_bytes

    # In codes of several bytes, those above 127 hardly ever all stand alone.
    pages = [*_CODE_PAGES]
    if re.search(rb"[\x80-\xff]{2}", data):
        pages += _SEVERAL_BYTES
    found = from_bytes(data, cp_isolation=pages).best()
    return found.encoding if found is not None else None
