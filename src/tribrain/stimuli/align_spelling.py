"""How an English word is said when a pronouncing dictionary does not hold it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence

_VOWELS = "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW".split()

# Letters to ARPAbet sounds; the longest piece that fits is taken, from the left. "^" is the start
# and "$" the end of a word. After the commonest readings in Elovitz et al. 1976 (IEEE Trans. ASSP
# 24:446-459), without its finer contexts.
_LETTERS: dict[str, str] = {
    piece: sounds.strip()
    for piece, _, sounds in (
        row.partition(":")
        for row in (
            "a:AE,aa:AA,ai:EY,air:EH R,ar:AA R,are$:EH R,arr:AE R,au:AO,aw:AO,ay:EY,ange:EY N JH,"
            "able$:AH B AH L,age$:IH JH,al$:AH L,all:AO L,alk:AO K,a$:AH,ate$:EY T,ace:EY S,"
            "ake:EY K,ale$:EY L,ame:EY M,ane$:EY N,ape$:EY P,ase$:EY S,ave$:EY V,ade$:EY D,"
            "augh:AO,b:B,bb:B,mb$:M,c:K,cc:K,ce:S EH,ce$:S,ces$:S IH Z,ced$:S T,ci:S IH,cy:S IY,"
            "ch:CH,ck:K,cian:SH AH N,cious:SH AH S,d:D,dd:D,dge:JH,dg:JH,ed$:D,ted$:T IH D,"
            "ded$:D IH D,e:EH,ea:IY,ear:IH R,eau:OW,ee:IY,eer:IH R,ei:EY,eigh:EY,er:ER,ere$:IH R,"
            "err:EH R,eu:Y UW,ew:UW,ey$:IY,ey:EY,e$:,es$:Z,ed:EH D,ene$:IY N,ete$:IY T,ese$:IY Z,"
            "f:F,ff:F,g:G,gg:G,ge$:JH,gi:JH IH,gy:JH IY,gh:G,^gh:G,igh:AY,ght:T,^gn:N,gn$:N,h:HH,"
            "i:IH,ia:IY AH,ie:IY,ie$:IY,ier$:IY ER,io:IY OW,ir:ER,ire$:AY ER,ise$:AY Z,ize$:AY Z,"
            "ine$:AY N,ide$:AY D,ike:AY K,ile$:AY L,ime$:AY M,ite$:AY T,ive$:IH V,ind$:AY N D,"
            "ice$:AY S,i$:IY,ing$:IH NG,j:JH,k:K,kk:K,^kn:N,l:L,ll:L,le$:AH L,les$:AH L Z,m:M,"
            "mm:M,n:N,nn:N,ng:NG,ng$:NG,nger:NG G ER,nk:NG K,o:AA,oa:OW,oar:AO R,oe$:OW,oi:OY,"
            "old:OW L D,oo:UW,ook:UH K,oor:AO R,or:AO R,ore$:AO R,ou:AW,ough:OW,ould$:UH D,"
            "our:AO R,ous$:AH S,ow:OW,own:AW N,oy:OY,o$:OW,oke$:OW K,ole$:OW L,ome$:OW M,"
            "one$:OW N,ope$:OW P,ose$:OW Z,ote$:OW T,ove$:OW V,p:P,pp:P,ph:F,^ps:S,^pn:N,q:K,"
            "qu:K W,que$:K,r:R,rr:R,rh:R,s:S,ss:S,sh:SH,sion:ZH AH N,ssion:SH AH N,sch:SH,"
            "^sc:S K,sce:S EH,sci:S AY,t:T,tt:T,th:TH,^the:DH EH,tion:SH AH N,tious:SH AH S,"
            "tial:SH AH L,tch:CH,ture$:CH ER,u:AH,ue$:UW,ui:UW,ur:ER,ure$:Y UH R,use$:Y UW Z,"
            "ute$:UW T,ude$:UW D,une$:UW N,ule$:UW L,uy:AY,u$:UW,v:V,vv:V,w:W,wh:W,who:HH UW,"
            "^wr:R,war:W AO R,wor:W ER,x:K S,^x:Z,y:IH,^y:Y,y$:IY,ying$:IY IH NG,yr:IH R,z:Z,"
            "zz:Z,'s$:Z,'t$:T,'d$:D,'ll$:AH L,'re$:ER,'ve$:V,'m$:M"
        ).split(",")
    )
}
_LONGEST = max(map(len, _LETTERS))

_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
).split()
_TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()
_SCALES = ((10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred"))
_SIGNS = {"&": "and", "+": "plus"}  # a text's words have no other signs within
_NAMES_OF_LETTERS = dict(
    pair.split(":")
    for pair in (
        "a:EY,b:B IY,c:S IY,d:D IY,e:IY,f:EH F,g:JH IY,h:EY CH,i:AY,j:JH EY,k:K EY,l:EH L,m:EH M,"
        "n:EH N,o:OW,p:P IY,q:K Y UW,r:AA R,s:EH S,t:T IY,u:Y UW,v:V IY,w:D AH B AH L Y UW,"
        "x:EH K S,y:W AY,z:Z IY"
    ).split(",")
)


def number_words(number: int, *, link: bool = False) -> list[str]:
    """An English cardinal number below 10**12: nine hundred sixty nine.

    With `link`, "and" stands before the last two figures: nine hundred and sixty nine.
    """
    if number < 20:
        return [_SMALL[number]]
    if number < 100:
        return [_TENS[number // 10]] + ([_SMALL[number % 10]] if number % 10 else [])
    size, name = next((size, name) for size, name in _SCALES if number >= size)
    left = number % size
    rest = number_words(left, link=link) if left else []
    between = ["and"] if link and 0 < left < 100 else []
    return [*number_words(number // size, link=link), name, *between, *rest]


def figure_readings(figures: str) -> list[list[str]]:
    """Ways to read figures aloud: as a number, as a year in two halves, figure by figure."""
    one_by_one = [_SMALL[int(one)] for one in figures]
    if len(figures) > 12 or (len(figures) > 1 and figures[0] == "0"):
        return [one_by_one]
    number = int(figures)
    readings = [number_words(number), number_words(number, link=True)]
    if len(figures) == 4 and (figures[1] != "0" or figures[2] != "0"):
        head, tail = number_words(int(figures[:2])), int(figures[2:])
        if tail:
            linked = [*head, "hundred", "and", *number_words(tail)]
            readings = [[*head, *(["oh"] * (tail < 10)), *number_words(tail)], *readings, linked]
        else:
            readings = [[*head, "hundred"], *readings]
    if len(figures) == 3:
        readings.append(one_by_one)
    return [reading for n, reading in enumerate(readings) if reading not in readings[:n]]


def letters_to_sounds(word: str) -> list[str]:
    """ARPAbet sounds of a word by its letters alone; empty if it has none of a to z."""
    plain = f"^{word}$"
    sounds: list[str] = []
    position = 1
    while position < len(plain) - 1:
        for size in range(_LONGEST, 0, -1):
            # A piece may be bound to the start, to the end, or to neither.
            piece = plain[position : position + size]
            options = [piece] + ([f"^{piece}"] if position == 1 else [])
            found = next((o for o in reversed(options) if o in _LETTERS), None)
            if found is not None and piece.strip("$"):
                sounds += _LETTERS[found].split()
                position += len(piece)
                break
        else:
            position += 1
    if sounds and not any(sound in _VOWELS for sound in sounds):  # "tv", "brr"
        return [s for c in word if c in _NAMES_OF_LETTERS for s in _NAMES_OF_LETTERS[c].split()]
    return sounds


def pronunciations(
    word: str, dictionary: Mapping[str, Sequence[str]], most: int = 4
) -> tuple[list[str], bool]:
    """Ways to say a word of a text.

    The dictionary comes first, for the whole word and then for its parts (at hyphens, at the
    apostrophe, between letters and figures). Figures are read as numbers and years, capitals as
    names of letters, and what is left by the rules of `letters_to_sounds`.

    Parameters
    ----------
    word : str
        As it stands in the text.
    dictionary : mapping from lower-case word to its pronunciations
        Each as ARPAbet sounds parted by spaces.
    most : int
        The most ways to return.

    Returns
    -------
    ways : list of str
        Empty where nothing in the word can be said in English.
    known : bool
        Whether the dictionary and the figures alone gave them.
    """
    plain = unicodedata.normalize("NFKD", word.replace("’", "'"))
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    if plain.lower() in dictionary:
        return list(dictionary[plain.lower()])[:most], True
    plain = re.sub(r"(?<=\d),(?=\d{3})", "", plain)
    parts = re.findall(r"\d+|[A-Za-z]+(?:'[A-Za-z]+)*|[&+]|\.(?=\d)", plain)
    ways, known = [""], bool(parts)
    if re.search(r"[^\W\d_]", re.sub(r"[A-Za-z]", "", plain)):
        known = False  # letters of another alphabet that no part stands for
    for part in parts:
        said, sure = _part(part, dictionary)
        known &= sure
        ways = [f"{way} {more}".strip() for more in said for way in ways][:most]
    return [way for way in ways if way], known


def _part(part: str, dictionary: Mapping[str, Sequence[str]]) -> tuple[list[str], bool]:
    def say(word: str) -> str:
        return dictionary[word][0] if word in dictionary else " ".join(letters_to_sounds(word))

    def join(words: Sequence[str]) -> str:
        return " ".join(say(word) for word in words)

    lower = part.lower()
    if part.isdigit():
        return [join(reading) for reading in figure_readings(part)], True
    if part == ".":
        return [say("point")], True
    if part in _SIGNS:
        return [say(_SIGNS[part])], True
    if lower in dictionary:
        return list(dictionary[lower]), True
    spelled = " ".join(_NAMES_OF_LETTERS[c] for c in lower if c in _NAMES_OF_LETTERS)
    if part.isupper() and len(part) <= 5:
        return [spelled, " ".join(letters_to_sounds(lower))], False
    for suffix in ("'s", "s"):
        stem = lower.removesuffix(suffix)
        if stem != lower and stem in dictionary:
            return [f"{way} {_plural(way)}" for way in dictionary[stem]], True
    return [" ".join(letters_to_sounds(lower))], False


def _plural(sounds: str) -> str:
    """Sound of an added s after the sounds of a stem."""
    last = sounds.split()[-1]
    if last in ("S", "Z", "SH", "CH", "ZH", "JH"):
        return "IH Z"
    return "S" if last in ("P", "T", "K", "F", "TH") else "Z"
