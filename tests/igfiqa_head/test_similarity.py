"""CCS, NNCCS and CR against loops over Eq. 1 and 2."""

import itertools

import numpy as np
import pytest
import torch

from igfiqa_head import certainty_ratio, class_center_similarities, class_chunks
from igfiqa_head.similarity import own_and_nearest
from tests.made_tensors import MadeTensors
from tests.references import method

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.float16: 2e-6, torch.bfloat16: 2e-6}


def random_batch(
    b: int, c: int, d: int, dtype: torch.dtype = torch.float32, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    embeddings = (5 * torch.randn(b, d, generator=generator, dtype=torch.float64)).to(dtype)
    prototypes = (0.1 * torch.randn(c, d, generator=generator, dtype=torch.float64)).to(dtype)
    return embeddings, prototypes, torch.randint(c, (b,), generator=generator)


def oracle(
    embeddings: torch.Tensor, prototypes: torch.Tensor, labels: torch.Tensor
) -> tuple[np.ndarray, np.ndarray]:
    return method.class_center_similarities(
        embeddings.double().numpy(), prototypes.double().numpy(), labels.tolist()
    )


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("b", "c", "d"), list(itertools.product((1, 7), (2, 3, 20), (1, 2, 16))))
def test_similarities_match_the_loops(b: int, c: int, d: int, dtype: torch.dtype) -> None:
    embeddings, prototypes, labels = random_batch(b, c, d, dtype)
    ccs, nnccs = class_center_similarities(embeddings, prototypes, labels)
    expected_ccs, expected_nnccs = oracle(embeddings, prototypes, labels)
    assert ccs.shape == nnccs.shape == (b,)
    assert ccs.dtype == nnccs.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    np.testing.assert_allclose(ccs, expected_ccs, rtol=0, atol=TOLERANCE[dtype])
    np.testing.assert_allclose(nnccs, expected_nnccs, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("classes_in_a_chunk", [1, 2, 19, 20, 21])
def test_chunks_of_classes_change_nothing(monkeypatch: pytest.MonkeyPatch, classes_in_a_chunk: int) -> None:
    embeddings, prototypes, labels = random_batch(7, 20, 16)
    monkeypatch.setattr(class_chunks, "CHUNK_VALUES", 16 * classes_in_a_chunk)
    ccs, nnccs = class_center_similarities(embeddings, prototypes, labels)
    expected_ccs, expected_nnccs = oracle(embeddings, prototypes, labels)
    np.testing.assert_allclose(ccs, expected_ccs, rtol=0, atol=2e-6)
    np.testing.assert_allclose(nnccs, expected_nnccs, rtol=0, atol=2e-6)


def test_memory_does_not_grow_with_the_number_of_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings, prototypes, labels = random_batch(30, 5000, 16)
    monkeypatch.setattr(class_chunks, "CHUNK_VALUES", 1024)
    with MadeTensors() as made:
        class_center_similarities(embeddings, prototypes, labels)
    assert 512 <= max(made.sizes) <= 1024


def test_similarities_to_parts_of_the_prototypes_make_the_whole() -> None:
    embeddings, prototypes, labels = random_batch(9, 11, 16)
    unit = torch.nn.functional.normalize(embeddings)
    parts = [own_and_nearest(unit, prototypes[a:b], labels - a) for a, b in ((0, 4), (4, 5), (5, 11))]
    ccs, nnccs = (torch.stack(of_parts) for of_parts in zip(*parts, strict=True))
    expected = class_center_similarities(embeddings, prototypes, labels)
    torch.testing.assert_close((ccs.sum(dim=0), nnccs.amax(dim=0)), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("narrow", [torch.float16, torch.bfloat16])
def test_half_precision_embeddings_meet_float32_prototypes(narrow: torch.dtype) -> None:
    embeddings, prototypes, labels = random_batch(5, 4, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ccs, nnccs = class_center_similarities(embeddings.to(narrow), prototypes, labels)
    expected = oracle(embeddings.to(narrow), prototypes, labels)
    assert ccs.dtype == nnccs.dtype == torch.float32
    np.testing.assert_allclose(ccs, expected[0], rtol=0, atol=2e-6)
    np.testing.assert_allclose(nnccs, expected[1], rtol=0, atol=2e-6)


def test_nnccs_is_the_greatest_even_when_all_similarities_are_negative() -> None:
    embeddings = torch.tensor([[1.0, 0.0]])
    prototypes = torch.tensor([[-1.0, 0.1], [-1.0, 3.0], [-1.0, 0.0]])
    ccs, nnccs = class_center_similarities(embeddings, prototypes, torch.tensor([0]))
    assert ccs.item() == pytest.approx(-1 / 1.01**0.5, abs=1e-6)
    assert nnccs.item() == pytest.approx(-1 / 10**0.5, abs=1e-6)


def test_two_opposite_classes_give_nnccs_of_minus_one_and_a_finite_ratio() -> None:
    prototypes = torch.tensor([[3.0, 4.0], [-3.0, -4.0]])
    ccs, nnccs = class_center_similarities(prototypes, prototypes, torch.tensor([0, 1]))
    torch.testing.assert_close(ccs, torch.ones(2))
    torch.testing.assert_close(nnccs, -torch.ones(2))
    assert certainty_ratio(ccs, nnccs).isfinite().all()


def test_duplicate_prototypes_make_nnccs_equal_ccs() -> None:
    embeddings, prototypes, labels = random_batch(6, 3, 8)
    ccs, nnccs = class_center_similarities(embeddings, prototypes[:1].expand(3, -1), labels)
    torch.testing.assert_close(ccs, nnccs, rtol=0, atol=0)


def test_similarities_ignore_lengths_and_stay_inside_the_interval() -> None:
    vectors = torch.randn(200, 3, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(200)
    ccs, nnccs = class_center_similarities(vectors * 1e4, vectors * 1e-4, labels)
    assert ccs.max() <= 1
    assert nnccs.min() >= -1
    torch.testing.assert_close(ccs, torch.ones(200))


def test_similarities_carry_no_gradient_and_change_no_input() -> None:
    embeddings, prototypes, labels = random_batch(4, 3, 8)
    before = prototypes.clone()
    outputs = class_center_similarities(embeddings.requires_grad_(), prototypes.requires_grad_(), labels)
    assert not any(output.requires_grad for output in outputs)
    assert torch.equal(prototypes, before)


def test_an_empty_batch_gives_empty_similarities() -> None:
    _, prototypes, _ = random_batch(1, 3, 8)
    ccs, nnccs = class_center_similarities(torch.zeros(0, 8), prototypes, torch.zeros(0, dtype=torch.long))
    assert ccs.shape == nnccs.shape == (0,)


LABELS = torch.tensor([0, 1, 2, 0])


@pytest.mark.parametrize(
    ("embeddings", "prototypes", "labels", "message"),
    [
        (torch.ones(4, 8), torch.ones(1, 8), LABELS * 0, r"at least 2 classes.*\(1, 8\)"),
        (torch.ones(4, 8), torch.ones(0, 8), LABELS * 0, r"at least 2 classes.*\(0, 8\)"),
        (torch.ones(4, 8), torch.ones(8), LABELS * 0, r"\[C, D\].*\(8,\)"),
        (torch.ones(4, 7), torch.ones(3, 8), LABELS, r"\[B, 8\].*\(4, 7\)"),
        (torch.ones(8), torch.ones(3, 8), LABELS, r"\[B, 8\].*\(8,\)"),
        (torch.ones(4, 8), torch.ones(3, 8), LABELS + 1, r"\[0, 3\).*1 .. 3"),
        (torch.ones(4, 8), torch.ones(3, 8), LABELS - 1, r"\[0, 3\).*-1 .. 1"),
        (torch.ones(4, 8), torch.ones(3, 8), LABELS.float(), r"integers.*float32"),
        (torch.ones(4, 8), torch.ones(3, 8), LABELS[:, None], r"vector.*\(4, 1\)"),
        (torch.ones(4, 8), torch.ones(3, 8), LABELS[:3], "4 embeddings came with 3 labels"),
    ],
)
def test_bad_input_is_refused(
    embeddings: torch.Tensor, prototypes: torch.Tensor, labels: torch.Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        class_center_similarities(embeddings, prototypes, labels)


@pytest.mark.parametrize("dtype", [torch.bool, torch.complex64])
def test_labels_that_are_no_integers_are_refused(dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match="integers"):
        class_center_similarities(torch.ones(2, 8), torch.ones(3, 8), torch.tensor([0, 1]).to(dtype))


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_certainty_ratio_matches_eq_2(dtype: torch.dtype) -> None:
    cosines = torch.linspace(-0.95, 1, 14, dtype=torch.float64).to(dtype)
    ccs, nnccs = torch.cartesian_prod(cosines, cosines).unbind(1)
    ratio = certainty_ratio(ccs, nnccs)
    assert ratio.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    expected = method.certainty_ratio(ccs.double().tolist(), nnccs.double().tolist())
    np.testing.assert_allclose(ratio, expected, rtol=2e-6, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_eps_keeps_the_ratio_finite_at_nnccs_of_minus_one(dtype: torch.dtype) -> None:
    ratio = certainty_ratio(torch.tensor([1.0, 0.0, -1.0], dtype=dtype), torch.full((3,), -1.0, dtype=dtype))
    torch.testing.assert_close(ratio, torch.tensor([1e9, 0.0, -1e9], dtype=dtype))
    halved = certainty_ratio(torch.ones(1, dtype=dtype), -torch.ones(1, dtype=dtype), eps=2e-9)
    torch.testing.assert_close(halved, torch.tensor([0.5e9], dtype=dtype))


def test_certainty_ratio_clamps_cosines_and_is_a_label() -> None:
    ccs = torch.tensor([1.5, -1.5, 0.5], requires_grad=True)
    ratio = certainty_ratio(ccs, torch.tensor([0.0, 0.0, 1.5]))
    torch.testing.assert_close(ratio, torch.tensor([1.0, -1.0, 0.25]))
    assert not ratio.requires_grad
