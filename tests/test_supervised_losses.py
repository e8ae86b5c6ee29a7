import numpy as np
import pytest
import torch

from skhash.supervised._losses import DRSCHLoss, DSHLoss, KSHLoss, similar_pairs

A, B, C = [1.0, -2.0], [1.0, 1.0], [-1.0, 0.5]
LABELS = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])  # A and B share one


@pytest.fixture
def batch(rng):
    """Outputs that are no special case, and labels of which samples have none to three."""
    outputs = torch.tensor(rng.normal(size=(9, 4)), requires_grad=True)
    labels = torch.tensor((rng.random((9, 5)) < 0.25).astype(np.float64))
    similar = similar_pairs(labels)
    assert 9 < similar.sum() < 60
    return outputs, labels


def pairs(labels):
    n = len(labels)
    return [(i, j, bool(labels[i] @ labels[j] > 0)) for i in range(n) for j in range(i + 1, n)]


def test_similar_is_what_shares_a_label():
    expected = [[True, True, False], [True, True, False], [False, False, True]]
    assert similar_pairs(LABELS).tolist() == expected
    assert not similar_pairs(torch.zeros(2, 3)).any()


def test_dsh_on_three_samples():
    # Squared distances: AB 9 (similar), AC 4 + 6.25 (beyond the margin), BC 4 + 0.25.
    outputs = torch.tensor([A, B, C])
    contrast = (9 + 0 + (10 - 4.25)) / 2 / (3 * 2)
    deviation = (0 + 1) + (0 + 0) + (0 + 0.5)
    loss = DSHLoss(margin=10, quantization=0.01, balance_pairs=False)(outputs, LABELS)
    assert loss.item() == pytest.approx(contrast + 0.01 * deviation / 3)
    # One similar and two dissimilar pairs: weights 3 / 2 and 3 / 4.
    contrast = (1.5 * 9 + 0.75 * (10 - 4.25)) / 2 / (3 * 2)
    loss = DSHLoss(margin=10, quantization=0.2, balance_pairs=True)(outputs, LABELS)
    assert loss.item() == pytest.approx(contrast + 0.2 * deviation / 3)


def test_dsh_is_its_formula(batch):
    outputs, labels = batch
    b, n = outputs.detach().numpy(), 9
    total = 0.0
    for i, j, similar in pairs(labels):
        d2 = np.sum((b[i] - b[j]) ** 2)
        total += 0.5 * (d2 if similar else max(6 - d2, 0)) / (n * (n - 1))
    total += 0.01 * np.sum(np.abs(np.abs(b) - 1)) / n
    assert DSHLoss(6, balance_pairs=False)(outputs, labels).item() == pytest.approx(total)


def test_ksh_on_three_samples():
    outputs = torch.tensor([A, B, C])
    gram = np.array([[5, -1, -2], [-1, 2, -0.5], [-2, -0.5, 1.25]]) / 2
    errors = (gram - np.array([[1, 1, -1], [1, 1, -1], [-1, -1, 1]])) ** 2
    assert KSHLoss(balance_pairs=False)(outputs, LABELS).item() == pytest.approx(errors.mean())
    weights = np.array([[1, 1.5, 0.75], [1.5, 1, 0.75], [0.75, 0.75, 1]])
    assert KSHLoss()(outputs, LABELS).item() == pytest.approx((weights * errors).mean())


def test_ksh_is_zero_for_perfect_codes():
    codes = torch.tensor([[1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]])
    assert KSHLoss()(codes, LABELS).item() == 0
    assert KSHLoss()(-codes, LABELS).item() == 0


def test_drsch_on_three_samples():
    # Codes w * sigmoid(outputs): sigmoid(0) = 1/2, sigmoid(log 3) = 3/4, sigmoid(-log 3) = 1/4.
    t = float(np.log(3))
    outputs = torch.tensor([[0.0, t], [t, t], [-t, -t]])
    loss = DRSCHLoss(2, margin=0.9, smoothing=0.1)
    with torch.no_grad():
        loss.bit_weights.copy_(torch.tensor([2.0, 4.0]))
    # Codes (1, 3), (1.5, 3), (0.5, 1): squared distances AB 0.25, AC 4.25, BC 5. Triplets:
    # anchor A, far C: 0.25 - 4.25; anchor B, far C: 0.25 - 5; both below -0.9.
    laplacian = 0.25 / 9
    assert loss(outputs, LABELS).item() == pytest.approx(-0.9 + 0.1 * laplacian)
    loss.margin = 4.5
    expected = (-4 - 4.5) / 2 + 0.1 * laplacian
    assert loss(outputs, LABELS).item() == pytest.approx(expected)


def test_drsch_is_its_formula(batch):
    outputs, labels = batch
    loss = DRSCHLoss(4, margin=0.3, smoothing=0.05).double()
    with torch.no_grad():
        loss.bit_weights.copy_(torch.tensor([1.0, 0.5, -2.0, 0.1]))
    y = np.array([1.0, 0.5, -2.0, 0.1]) / (1 + np.exp(-outputs.detach().numpy()))
    similar = similar_pairs(labels).numpy()
    n = len(y)
    triplets = [
        max(np.sum((y[i] - y[j]) ** 2) - np.sum((y[i] - y[k]) ** 2), -0.3)
        for i in range(n)
        for j in range(n)
        for k in range(n)
        if i != j and similar[i, j] and not similar[i, k]
    ]
    laplacian = np.diag(similar.sum(1)) - similar.astype(float)
    expected = np.mean(triplets) + 0.05 * np.trace(y.T @ laplacian @ y) / n**2
    assert loss(outputs, labels).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    "loss",
    [
        DSHLoss(6),
        DSHLoss(6, quantization=0.3, balance_pairs=False),
        KSHLoss(),
        KSHLoss(balance_pairs=False),
        DRSCHLoss(4, margin=0.3, smoothing=0.1),
    ],
    ids=repr,
)
def test_gradients_agree_with_finite_differences(loss, batch):
    outputs, labels = batch
    loss = loss.double()
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), (outputs,))
    parameters = tuple(loss.parameters())
    if parameters:
        assert torch.autograd.gradcheck(lambda *_: loss(outputs.detach(), labels), parameters)


@pytest.mark.parametrize("loss", [DSHLoss(6), KSHLoss(), DRSCHLoss(2, 1.0)], ids=repr)
@pytest.mark.parametrize(
    "labels",
    [torch.ones(3, 1), torch.eye(3), torch.ones(1, 1), torch.zeros(3, 2)],
    ids=["all similar", "none similar", "one sample", "no labels"],
)
def test_batches_without_one_kind_of_pair(loss, labels):
    outputs = torch.tensor([A, B, C])[: len(labels)].requires_grad_()
    value = loss(outputs, labels)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(outputs.grad).all()


@pytest.mark.parametrize(
    "labels", [torch.eye(6)[[0, 0, 1, 2, 3, 4, 5]], torch.eye(2)[[0] * 6 + [1]]]
)
def test_constant_bits_cost_the_same_whichever_kind_of_pair_is_rare(labels):
    constant = torch.ones(7, 3)  # right for all similar pairs, wrong for all others
    assert KSHLoss(balance_pairs=True)(constant, labels).item() == pytest.approx(4 / 2 * 6 / 7)
    assert DSHLoss(6, 0.0, balance_pairs=True)(constant, labels).item() == pytest.approx(6 / 2 / 4)
    wrong = 1 - similar_pairs(labels).float().mean().item()
    assert KSHLoss(balance_pairs=False)(constant, labels).item() == pytest.approx(4 * wrong)
    expected = 6 / 4 * wrong * 7 / 6
    assert DSHLoss(6, 0.0, balance_pairs=False)(constant, labels).item() == pytest.approx(expected)
