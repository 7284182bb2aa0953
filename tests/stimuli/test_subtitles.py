"""Subtitle tracks of films are found, named and read at the right times."""

from __future__ import annotations

import base64
import zlib
from fractions import Fraction
from pathlib import Path

import av
import pytest

from format_makers import refusal_of
from media_makers import HEIGHT, WIDTH, barcode
from tribrain.errors import InputError
from tribrain.stimuli.subtitles import read_subtitles, subtitle_tracks
from tribrain.stimuli.tracks import probe
from tribrain.stimuli.transcripts import read_transcript
from tribrain.stimuli.words import Word

SRT = (
    "1\n00:00:01,000 --> 00:00:02,500\nthe <i>old</i> man\n\n"
    "2\n00:00:03,000 --> 00:00:05,000\nété\n"
)
VTT = "WEBVTT\n\n00:01.000 --> 00:02.500 align:start\nthe<00:00:02.000><c> old</c>\n"
ASS = """[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize
Style: Default,Arial,20

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:01.00,0:00:02.50,Default,,0,0,0,,{\\i1}the{\\i0} old,\\Nwet sea
Dialogue: 0,0:00:03.00,0:00:05.00,Default,,0,0,0,,{\\p1}m 0 0 l 9 9{\\p0}
"""
# An .mp4 file with a mov_text track of one caption, "a"; FFmpeg's encoder cannot be used from here.
MOV_TEXT = zlib.decompress(
    base64.b85decode(
        "c-oy&y-ve05I(m;>QF?5I%X(R2L=XyN2J2U4s0w=?GUSW64{pucpKh@hu|@IgK~D0)TM}lPr2N8@%_Z#0YH-BYo%O"
        "i0D9m(*}17M&j4VMSt-fy8^IA6CknlHQ<h62+AMPcF%E8L!5H{wgRNjUp245!QNb5lz99aDi!igl)6LJ_p#P7#Qz_"
        "7qPo#F(RkVFWEz6BiUWJJfzu*1wBSfdU(6&8tDe5@&zD`l0mUp}mTKY6LGOEak3=7lsor?9hL|B<cHyGAdPa6K|F!"
        "jBKLnoq~2Yk7Bj&IFY^jiH;W3(a=JIs)$6tle>tGMqsPSLg+95*&`81!j&(rMGGn$SPYqnWJBTc5pc?=<Yl`?14$8P"
        "%PTUDpD=&R0eT?{O4sN_()ps<w0;C|cY%m8w|N"
    )
)


def film(path: Path, *sources: Path, first: float = 0.0, shift: float = 0.0) -> Path:
    """A film of 2 s whose first frame is at `first` s, with subtitles moved by `shift` s."""
    with av.open(str(path), "w") as new:
        video = new.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        olds = [av.open(str(source)) for source in sources]
        copies = [new.add_stream_from_template(old.streams.subtitles[0]) for old in olds]
        for copy, language in zip(copies, ["fre", "eng"], strict=False):
            copy.metadata["language"] = language
        copies[0].metadata["title"] = "the first"
        for number in range(50):
            frame = av.VideoFrame.from_ndarray(barcode(number), format="rgb24")
            frame.pts, frame.time_base = number + round(25 * first), Fraction(1, 25)
            new.mux(video.encode(frame))
        new.mux(video.encode())
        for old, copy in zip(olds, copies, strict=True):
            for packet in old.demux():
                if packet.dts is not None and packet.size:
                    packet.stream = copy
                    packet.pts = packet.dts = packet.pts + round(shift / packet.time_base)
                    new.mux(packet)
            old.close()
    return path


def written(folder: Path, content: str | bytes, name: str) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def spans(words: list[Word]) -> list[tuple[str, float, float]]:
    return [(word.text, round(word.start, 3), round(word.end, 3)) for word in words]


SPREAD = [("the", 1.0, 1.5), ("old", 1.5, 2.0), ("man", 2.0, 2.5), ("été", 3.0, 5.0)]


@pytest.mark.parametrize(
    ("content", "name", "codec", "expected"),
    [
        (SRT, "a.srt", "subrip", SPREAD),
        (VTT, "a.vtt", "webvtt", [("the", 1.0, 2.0), ("old", 2.0, 2.5)]),
        (
            ASS,
            "a.ass",
            "ass",
            [("the", 1.0, 1.375), ("old,", 1.375, 1.75), ("wet", 1.75, 2.125), ("sea", 2.125, 2.5)],
        ),
    ],
)
def test_a_track_of_text_in_an_mkv_is_read(tmp_path, content, name, codec, expected):
    path = film(tmp_path / "film.mkv", written(tmp_path, content, name))
    (track,) = subtitle_tracks(path)
    assert (track.index, track.language, track.title) == (1, "fre", "the first")
    assert track.codec == codec
    assert track.readable
    words, notes = read_subtitles(path, track)
    assert spans(words) == expected
    assert all(note.startswith("film.mkv, subtitles 1: ") for note in notes)
    assert (words[0].source == "caption") == (codec != "webvtt")


def test_a_track_in_an_mp4_is_read(tmp_path):
    path = film(tmp_path / "film.mp4", written(tmp_path, MOV_TEXT, "a.mp4"), shift=0.5)
    (track,) = subtitle_tracks(path)
    assert track.codec == "mov_text"
    assert spans(read_subtitles(path, track.index)[0]) == [("a", 0.5, 1.5)]


def test_each_of_several_tracks_is_read(tmp_path):
    other = SRT.replace("été", "summer")
    sources = [written(tmp_path, SRT, "a.srt"), written(tmp_path, other, "b.srt")]
    path = film(tmp_path / "film.mkv", *sources)
    tracks = subtitle_tracks(path)
    assert [(track.index, track.language) for track in tracks] == [(1, "fre"), (2, "eng")]
    last = [read_subtitles(path, track)[0][-1].text for track in tracks]
    assert last == ["été", "summer"]


@pytest.mark.parametrize(
    ("zero", "early", "expected"),
    [
        # By itself, from the first frame; the caption that starts before it is cut there.
        (None, 0, [("the", 0, 0.167), ("old", 0.167, 0.333), ("man", 0.333, 0.5), ("été", 1, 3)]),
        (4.0, 1, [("été", 0, 1)]),
    ],
)
def test_times_count_from_the_start_of_the_film(tmp_path, zero, early, expected):
    path = film(tmp_path / "film.mkv", written(tmp_path, SRT, "a.srt"), first=2.0)
    assert probe(path)[0].origin == pytest.approx(2.0)
    words, notes = read_subtitles(path, 1, zero=zero)
    assert spans(words) == expected
    assert sum("1 caption before the start of the film left out" in note for note in notes) == early


def test_a_track_in_another_encoding_is_told_by_its_words(tmp_path):
    text = SRT.replace("été", "Старик тянул лодку").replace("the <i>old</i> man", "по песку")
    path = film(tmp_path / "film.mkv", written(tmp_path, text.encode("cp1251"), "a.srt"))
    words, notes = read_subtitles(path, 1)
    assert [word.text for word in words] == "по песку Старик тянул лодку".split()
    assert sum("is not UTF-8; by its letters it was read as cp1251" in note for note in notes) == 1


def test_a_track_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    path = film(tmp_path / "film.mkv", written(tmp_path, SRT, "a.srt"))
    with pytest.raises(InputError) as error:
        read_subtitles(path, 7)
    assert "no subtitle track 7; it has: 1 (fre, the first, subrip)" in refusal_of(
        error.value, "film.mkv"
    )


def test_a_track_of_pictures_is_named_and_not_read(tmp_path):
    path = film(tmp_path / "film.mkv", written(tmp_path, SRT, "a.srt"))
    data = path.read_bytes()
    assert data.count(b"S_TEXT/UTF8") == 1
    path.write_bytes(data.replace(b"S_TEXT/UTF8", b"S_HDMV/PGS\0"))
    (track,) = subtitle_tracks(path)
    assert track.codec == "hdmv_pgs_subtitle"
    assert not track.readable
    with pytest.raises(InputError) as error:
        read_subtitles(path, track)
    assert "pictures of text, not readable" in refusal_of(error.value, "film.mkv")


def test_a_film_without_subtitles_and_a_file_that_is_none(tmp_path):
    path = film(tmp_path / "film.mkv", written(tmp_path, SRT, "a.srt"))
    bare = tmp_path / "bare.mkv"
    with av.open(str(path)) as old, av.open(str(bare), "w") as new:
        copy = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = copy
                new.mux(packet)
    assert subtitle_tracks(bare) == []
    with pytest.raises(InputError, match="it has: no subtitles"):
        read_subtitles(bare, 0)
    with pytest.raises(InputError):
        subtitle_tracks(written(tmp_path, "no film", "text.mkv"))


def test_nothing_is_written_beside_the_film(tmp_path):
    path = film(tmp_path / "film.mkv", written(tmp_path, SRT, "a.srt"))
    before = sorted(tmp_path.iterdir())
    read_subtitles(path, subtitle_tracks(path)[0])
    assert sorted(tmp_path.iterdir()) == before


def test_the_subtitles_of_a_real_film_are_its_captions(stimuli):
    folder = stimuli / "nasa-webb-13s"
    path = folder / "nasa_13013.mp4"
    tracks = subtitle_tracks(path)
    assert [(t.index, t.language, t.codec) for t in tracks] == [
        (2, "eng", "mov_text"),
        (5, "eng", "mov_text"),
    ]
    captions, _ = read_transcript(folder / "transcript.tsv")
    words, notes = read_subtitles(path, tracks[0])
    assert ["NAR:", *(word.text for word in words)] == [word.text for word in captions]
    assert sum("1 speaker label left out (NAR)" in note for note in notes) == 1
    # The label takes time in the table alone; from the second caption on both agree.
    for word, other in zip(words[10:], captions[11:], strict=True):
        assert (word.start, word.end) == pytest.approx((other.start, other.end))
    assert words[-1].end == pytest.approx(16.57)  # the film ends at 13 s
