"""What a file holds is measured stream by stream; a damaged one is used or refused."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

import makers
import media_makers
from media_makers import (
    PLAIN_FILMS,
    barcode,
    chirp,
    film_track,
    mux_sound,
    numbers_in,
    one_line,
    refusal_or,
    remux,
    sines,
    write_barcodes,
    zeroed,
)
from tribrain.errors import InputError
from tribrain.stimuli.media import picture_track, probe

# Fixtures: pytest finds them under this module's own names.
films = media_makers.films


# What is in a file


@pytest.mark.parametrize("suffix", PLAIN_FILMS)
def test_a_film_without_sound_has_no_sound_track(films, suffix):
    video, audio = probe(films / f"plain.{suffix}")
    assert audio is None
    assert video is not None
    assert video.start == 0
    np.testing.assert_allclose(video.frame_times, np.arange(60) / 25, atol=1.1e-3)


def test_a_film_and_its_sound_are_measured_apart(tmp_path):
    frames = [barcode(number) for number in range(30)]
    path = makers.write_film(tmp_path / "f.mp4", frames, rate=10, sound=chirp(16_000, 1.25))
    video, audio = probe(path)
    assert video is not None
    assert video.duration == pytest.approx(3)
    assert audio is not None
    assert audio.duration == pytest.approx(1.25, abs=0.065)
    assert (audio.rate, audio.channels) == (16_000, 1)


def test_subtitles_do_not_lengthen_a_film(films, tmp_path):
    captions = tmp_path / "late.srt"
    captions.write_text(
        "1\n00:00:00,500 --> 00:00:01,000\nhi\n\n2\n00:00:08,000 --> 00:00:09,000\n.\n"
    )
    path = tmp_path / "captioned.mkv"
    with (
        av.open(str(films / "plain.mkv")) as film,
        av.open(str(captions)) as text,
        av.open(str(path), "w") as both,
    ):
        sources = (film.streams.video[0], text.streams.subtitles[0])
        copies = [both.add_stream_from_template(source) for source in sources]
        for source, copy, container in zip(sources, copies, (film, text), strict=True):
            for packet in container.demux(source):
                if packet.dts is not None:
                    packet.stream = copy
                    both.mux(packet)
    with av.open(str(path)) as made:
        assert made.duration >= 8_000_000  # the container does count them
    video, audio = probe(path)
    assert video is not None
    assert video.duration == pytest.approx(60 / 25)
    assert audio is None


@pytest.mark.parametrize(
    ("suffix", "codec", "container"),
    [("mp3", "libmp3lame", "mp3"), ("flac", "flac", "flac"), ("m4a", "aac", "mp4")],
)
def test_a_cover_picture_is_not_video(tmp_path, suffix, codec, container):
    picture = io.BytesIO()
    Image.new("RGB", (64, 64), (200, 10, 10)).save(picture, "JPEG")
    picture.seek(0)
    path = tmp_path / f"song.{suffix}"
    with av.open(picture, format="mjpeg") as art, av.open(str(path), "w", format=container) as song:
        cover_packet = next(art.demux(art.streams.video[0]))
        sound = song.add_stream(codec, rate=44_100, layout="mono")
        sound.codec_context.open()
        cover = song.add_stream_from_template(art.streams.video[0])
        cover.disposition = av.stream.Disposition.attached_pic
        cover_packet.stream, cover_packet.pts, cover_packet.dts = cover, 0, 0
        song.mux(cover_packet)
        mux_sound(song, sound, sines(44_100, 1, 1.0))
    with av.open(str(path)) as made:
        assert [stream.type for stream in made.streams] == ["audio", "video"]
    video, audio = probe(path)
    assert video is None
    assert audio is not None
    assert audio.duration == pytest.approx(1.0, abs=0.001)


# Damage


BAD_CONTENT = {
    "empty": b"",
    "text": b"A story, and no film at all.\n" * 40,
    "captions": b"1\n00:00:00,500 --> 00:00:01,000\nhi\n",
    "web captions": b"WEBVTT\n\n00:01.000 --> 00:02.000\nhi\n",
    "page": b"<!DOCTYPE html><html><body>404</body></html>",
    "zeros": bytes(5000),
    "noise": np.random.default_rng(0).bytes(5000),
}


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "webm", "wav", "mp3", "ogg", "flac"])
@pytest.mark.parametrize("content", BAD_CONTENT)
def test_what_is_neither_film_nor_sound_is_refused_in_one_line(tmp_path, content, suffix):
    path = tmp_path / f"not-a-film.{suffix}"
    path.write_bytes(BAD_CONTENT[content])
    with pytest.raises(InputError) as error:
        probe(path)
    one_line(error, path)


@pytest.mark.parametrize("make", ["missing", "folder"])
def test_a_missing_file_and_a_folder_are_refused_in_one_line(tmp_path, make):
    path = tmp_path / "there.mp4"
    if make == "folder":
        path.mkdir()
    for read in (probe, lambda p: picture_track(p, 1.0)):
        with pytest.raises(InputError) as error:
            read(path)
        one_line(error, path)


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("suffix", [*PLAIN_FILMS, "mp4 index first"])
def test_a_film_cut_short_gives_the_frames_it_has_or_is_refused(tmp_path, suffix, kept):
    options = {"movflags": "faststart"} if "index" in suffix else None
    suffix = suffix.split()[0]
    whole = tmp_path / f"whole.{suffix}"
    write_barcodes(whole, 100, PLAIN_FILMS[suffix], options=options)
    content = whole.read_bytes()
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(content[: int(kept * len(content))])
    outcome = refusal_or(path, lambda: (film_track(path), numbers_in(film_track(path))))
    if outcome is None:
        return
    track, found = outcome
    last = len(found) - 1
    assert track.duration == pytest.approx(len(found) / 25)
    assert [found[number] for number in range(last)] == list(range(last))
    assert found[last] in (last, last - 1)  # the cut may run through the last one


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm"])
def test_a_film_cut_short_with_its_index_in_front_is_used(tmp_path, suffix):
    whole = write_barcodes(
        tmp_path / f"whole.{suffix}",
        100,
        PLAIN_FILMS[suffix],
        options={"movflags": "faststart"} if suffix == "mp4" else None,
    )
    content = whole.read_bytes()
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(content[: int(0.7 * len(content))])
    assert 10 < len(film_track(path).frame_times) < 100


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "webm"])
def test_frames_after_damaged_packets_keep_their_numbers(films, tmp_path, suffix):
    path = remux(
        films / f"plain.{suffix}",
        tmp_path / f"damaged.{suffix}",
        lambda number, packet: zeroed(packet) if 23 <= number < 27 else packet,
    )
    track = film_track(path)
    found = numbers_in(track)
    assert list(found) == list(range(60))
    sound = [*range(23), *range(30, 60)]  # from the next key frame on
    assert [found[number] for number in sound] == sound


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "webm"])
def test_frames_that_were_left_out_do_not_shift_the_others(films, tmp_path, suffix):
    path = remux(
        films / f"plain.{suffix}",
        tmp_path / f"dropped.{suffix}",
        lambda number, packet: None if 23 <= number < 27 else packet,
    )
    track = film_track(path)
    asked = np.array([*range(23), *range(30, 60)])
    numbers = track.frame_numbers(asked / 25 + 1e-3)
    found = numbers_in(track, numbers.tolist())
    assert [found[number] for number in numbers.tolist()] == asked.tolist()


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "webm"])
def test_a_film_that_starts_between_key_frames_is_not_shifted(films, tmp_path, suffix):
    path = remux(
        films / f"plain.{suffix}",
        tmp_path / f"late.{suffix}",
        lambda number, packet: None if number < 3 else packet,
    )
    track = film_track(path)
    found = numbers_in(track)
    assert len(found) == 57
    # What is drawn as n + 3 appears n / 25 s after the first frame; 10 is the first key frame.
    assert [found[number] for number in range(7, 57)] == list(range(10, 60))


@pytest.mark.parametrize("b_frames", [0, 2])
def test_frames_that_an_edit_list_cuts_off_are_not_counted(tmp_path, b_frames):
    def earlier(_: int, packet: av.Packet) -> av.Packet:
        shift = round(Fraction(13, 25) / packet.time_base)
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        return packet

    whole = write_barcodes(tmp_path / "whole.mp4", 60, b_frames=b_frames)
    path = remux(whole, tmp_path / "edited.mp4", earlier, {"avoid_negative_ts": "disabled"})
    track = film_track(path)
    assert (track.start, track.duration) == (0.0, pytest.approx(47 / 25))
    assert numbers_in(track) == {number: number + 13 for number in range(47)}


def test_a_film_without_one_frame_that_can_be_decoded_is_refused(films, tmp_path):
    path = remux(films / "plain.mkv", tmp_path / "zeros.mkv", lambda _, packet: zeroed(packet))
    with pytest.raises(InputError) as error:
        numbers_in(film_track(path))
    one_line(error, path)


@pytest.mark.parametrize("content", ["ffconcat version 1.0\nfile '{}'\n", "#EXTM3U\n{}\n"])
def test_a_list_of_other_files_is_not_followed(tmp_path, content):
    other = makers.write_sound(tmp_path / "other.wav", np.zeros(16_000), 16_000)
    (tmp_path / "list.mp4").write_text(content.format(other.name))
    with pytest.raises(InputError, match="cannot be read"):
        probe(tmp_path / "list.mp4")
