"""The network of clips: what is missing or added as padding changes nothing, and its self-supervised stage helps where labels are few."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from salus.encode.clip_quality import moving_disc
from salus.encode.encoder import encode
from salus.encode.video import FRAMES, SIDE, VideoEncoder, prepare_clip, seen_otherwise
from salus.errors import FormatError
from salus.modalities.lung_ultrasound import example
from salus.record.patient import Clip, Item


def holding(clip: Clip) -> Item:
    (item,) = example()
    assert item.content is not None
    return replace(item, content=replace(item.content, load=lambda: clip))


def tokens_of(clip: Clip) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    encoder = VideoEncoder().eval()
    prepared = encoder.prepare([holding(clip)], {})
    assert prepared is not None
    with torch.no_grad():
        encoded = encode(encoder, [prepared])
    return encoded.values[0], encoded.mask[0]


def padded(clip: Clip, before: int, after: int) -> Clip:
    """Return the clip with missing frames at both ends."""
    step = float(clip.time_s[1] - clip.time_s[0])
    room = ((before, after), (0, 0), (0, 0))
    time_s = (np.arange(len(clip.time_s) + before + after)) * step
    return Clip(np.pad(clip.frames, room), time_s, np.pad(clip.is_present, (before, after)))


def test_shapes_and_mask() -> None:
    values, mask = tokens_of(moving_disc())
    assert values.shape == (16, 64) and mask.all() and bool(values.isfinite().all())


@pytest.mark.parametrize(("before", "after"), [(0, 9), (5, 0), (40, 100)])
def test_missing_frames_at_the_ends_change_nothing(before: int, after: int) -> None:
    clip = moving_disc()
    torch.testing.assert_close(tokens_of(padded(clip, before, after))[0], tokens_of(clip)[0], rtol=1e-4, atol=1e-5)


def test_what_a_missing_frame_holds_changes_nothing() -> None:
    clip, other = moving_disc(), moving_disc()
    other.frames[~other.is_present] = 255
    torch.testing.assert_close(tokens_of(other)[0], tokens_of(clip)[0], rtol=0, atol=0)


def test_padding_in_the_batch_changes_nothing() -> None:
    encoder = VideoEncoder().eval()
    frames, phase = (torch.from_numpy(array)[None] for array in prepare_clip(moving_disc(20)))
    frames[:, 20:] = 7.0  # whatever stands where no frame is
    with torch.no_grad():
        values, mask = encoder({"frames": frames, "phase": phase})
        fewer, fewer_mask = encoder({"frames": frames[:, :20], "phase": phase[:, :20]})
    torch.testing.assert_close(values, fewer, rtol=1e-5, atol=1e-6)
    assert torch.equal(mask, fewer_mask)


def test_a_stretch_without_frames_is_masked() -> None:
    clip = moving_disc(40)
    gone = (clip.time_s > 0.25 * clip.time_s[-1]) & (clip.time_s < 0.5 * clip.time_s[-1])
    _, mask = tokens_of(replace(clip, is_present=clip.is_present & ~gone))
    assert mask.reshape(4, 4).any(1).tolist() == [True, False, True, True]


def test_exposure_and_colour_drop_out() -> None:
    clip = moving_disc()
    brighter = replace(clip, frames=(clip.frames.astype(np.float32) * 3 + 40), value_range=(0.0, 1000.0))
    colour = replace(clip, frames=np.repeat(clip.frames[..., None], 3, axis=-1))
    for other in (brighter, colour):
        torch.testing.assert_close(tokens_of(other)[0], tokens_of(clip)[0], rtol=1e-3, atol=1e-3)


def test_a_flat_clip_is_nothing() -> None:
    clip = moving_disc()
    assert VideoEncoder().prepare([holding(replace(clip, frames=np.zeros_like(clip.frames)))], {}) is None
    with pytest.raises(FormatError, match="Cannot prepare a clip of shape"):
        prepare_clip(replace(clip, frames=np.zeros((3, 4), np.uint8)))


def test_views_hide_at_most_half_and_never_all() -> None:
    torch.manual_seed(0)
    frames, phase = (torch.from_numpy(np.stack([array] * 8)) for array in prepare_clip(moving_disc(40)))
    view = seen_otherwise({"frames": frames, "phase": phase})
    left = torch.isfinite(view["phase"]).sum(1)
    assert view["frames"].shape == (8, FRAMES, SIDE, SIDE) and bool((left >= 1).all()) and bool((left < FRAMES).any())
    assert bool(torch.isfinite(view["frames"]).flatten(1).any(1).all())


def test_the_self_supervised_stage_learns() -> None:
    """Eight clips that differ: the views of each are told from the others' better after ten steps than before."""
    torch.manual_seed(0)
    clips = [prepare_clip(replace(moving_disc(16), frames=np.roll(moving_disc(16).frames, 4 * k, axis=1 + k % 2))) for k in range(8)]
    arrays = {name: torch.from_numpy(np.stack([clip[place] for clip in clips])) for place, name in enumerate(("frames", "phase"))}
    encoder = VideoEncoder(width=32, channels=(8, 16, 16))
    pretext = encoder.build_pretext()
    optimiser = torch.optim.AdamW([*encoder.parameters(), *pretext.parameters()], lr=3e-3)
    losses = []
    for _ in range(10):
        loss = pretext(encoder, arrays)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss))
    assert np.isfinite(losses).all() and np.mean(losses[-3:]) < np.mean(losses[:3])
