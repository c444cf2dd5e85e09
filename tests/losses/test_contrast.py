"""The contrast of sounds and pictures: who is compared with whom."""

import torch

from cocktail.losses.contrast import audio_visual_contrast, best_similarity


def unit(*shape: int) -> torch.Tensor:
    return torch.nn.functional.normalize(
        torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))), dim=-1
    )


HERE = torch.ones(4, 2, dtype=torch.bool)


def test_the_best_location_counts():
    audio, visual = unit(3, 8), unit(2, 5, 8)
    similarity = best_similarity(audio, visual)
    assert similarity.shape == (2, 3)
    torch.testing.assert_close(similarity[1, 2], max(visual[1, p] @ audio[2] for p in range(5)))


def test_a_perfect_match_costs_nothing_and_chance_two_logarithms():
    audio = torch.eye(4)[:, None].expand(-1, 2, -1)
    visual = torch.stack([torch.zeros(4, 2, 4), audio], dim=2)  # one location of each picture sounds
    assert audio_visual_contrast(audio, visual, HERE, 0.03) < 1e-6
    same = torch.ones(4, 2, 4) / 2
    chance = audio_visual_contrast(same, same[:, :, None], HERE, 0.03)
    torch.testing.assert_close(chance, 2 * torch.tensor(4.0).log())


def test_a_source_that_is_not_there_is_neither_found_nor_a_negative():
    audio, visual = unit(4, 2, 8), unit(4, 2, 3, 8)
    gone = HERE.clone()
    gone[3, 1] = False
    first = audio_visual_contrast(audio[:, :1], visual[:, :1], HERE[:, :1], 0.1)
    second = audio_visual_contrast(audio[:3, 1:], visual[:3, 1:], HERE[:3, 1:], 0.1)
    torch.testing.assert_close(audio_visual_contrast(audio, visual, gone, 0.1), (4 * first + 3 * second) / 7)
    assert audio_visual_contrast(audio, visual, torch.zeros_like(HERE), 0.1) == 0


def test_sources_of_one_class_can_be_left_out_of_each_others_negatives():
    audio, visual = unit(4, 1, 8), unit(4, 1, 3, 8)
    class_ids = torch.tensor([[0], [1], [0], [2]])
    without = audio_visual_contrast(audio, visual, HERE[:, :1], 0.1, class_ids=class_ids, mask_same_class=True)
    similarity = best_similarity(audio[:, 0], visual[:, 0]) / 0.1
    similarity[0, 2] = similarity[2, 0] = -torch.inf
    expected = similarity.log_softmax(0).diagonal() + similarity.log_softmax(1).diagonal()
    torch.testing.assert_close(without, -expected.mean())
    assert without < audio_visual_contrast(audio, visual, HERE[:, :1], 0.1, class_ids=class_ids)


def test_a_picture_can_be_gated_by_the_class_that_is_looked_for_in_it():
    audio, visual, gates = unit(3, 1, 8), unit(3, 1, 4, 8), unit(3, 1, 5, 8)
    class_ids = torch.tensor([[4], [0], [4]])
    loss = audio_visual_contrast(audio, visual, HERE[:3, :1], 0.1, class_ids=class_ids, gates=gates)
    similarity = torch.empty(3, 3)
    for m in range(3):
        for r in range(3):
            gated = torch.nn.functional.normalize(visual[m, 0] * gates[m, 0, class_ids[r, 0]], dim=-1)
            similarity[m, r] = (gated @ audio[r, 0]).max() / 0.1
    expected = similarity.log_softmax(0).diagonal() + similarity.log_softmax(1).diagonal()
    torch.testing.assert_close(loss, -expected.mean())
