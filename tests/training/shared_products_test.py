"""Factors of query, key and value in one product, in graphs on torch."""

import keras
import pytest
import torch

import keras_debias as kd
from tests.training.compiled_step_test import PARTS
from tests.training.compiled_step_test import check
from tests.training.compiled_step_test import graphs  # noqa: F401
from tests.training.compiled_step_test import in_parts  # noqa: F401
from tests.training.fit_test import TABLE

pytestmark = pytest.mark.skipif(
    keras.config.backend() != "torch", reason="No graph of ours."
)


def count(graph, name):
    return sum(
        str(node.target) == f"aten.{name}.default" for node in graph.nodes
    )


@pytest.fixture
def counts(monkeypatch, graphs, in_parts):  # noqa: F811
    """Products and joined ones of each graph, before and after."""
    from keras_debias.training import torch_compiled_call

    found = []
    share = torch_compiled_call.fuse_matmuls

    def counted(graph, *args):
        before = count(graph, "matmul")
        share(graph, *args)
        found.append(
            (
                before,
                count(graph, "matmul"),
                count(graph, "split_with_sizes"),
            )
        )

    monkeypatch.setattr(torch_compiled_call, "fuse_matmuls", counted)
    return found


@pytest.mark.parametrize(
    ("adapter", "dropout"),
    [("LoRA", 0.0), ("LoRA", 0.5), ("PiSSA", 0.0), ("PiSSA", 0.5), ("DoRA", 0)],
)
@pytest.mark.parametrize("name", ["bert", "llama"])
def test_query_key_and_value_share_one(name, adapter, dropout, counts):
    def build():
        model = TABLE[name].build()
        options = {} if adapter == "DoRA" else {"dropout": dropout}
        create = getattr(kd.adapters, adapter)
        kd.adapters.apply(
            model, create(2, targets=("query", "key", "value"), **options)
        )
        return model

    x, y = TABLE[name].data(seed=0)
    check(build, lambda: PARTS["EDGE"](None), x, y)
    (before, after, joined), *_ = counts
    if dropout and adapter == "LoRA":
        # Each reads other units: there is nothing to share.
        assert joined == 0 and after == before
    else:
        # Three products are one in both layers (with dropout, of the start).
        assert joined == 2 and after == before - 4


def traced(function, weights, x):
    from torch.fx.experimental.proxy_tensor import make_fx

    from keras_debias.training.torch_fused_matmuls import fuse_matmuls

    graph = make_fx(function, pre_dispatch=True)(weights, x)
    fuse_matmuls(graph.graph, len(weights))
    graph.recompile()
    return graph


def test_only_matrices_of_weights_are_joined():
    weights = [torch.randn(8, 2) for _ in range(3)]
    x = torch.randn(8, 8)

    def function(weights, x):
        first = x @ weights[0]
        # Made of the first product, and by chance.
        second = x @ (first + weights[1])
        third = x @ torch.nn.functional.dropout(weights[2], 0.5)
        return first, second, third

    graph = traced(function, weights, x)
    assert count(graph.graph, "split_with_sizes") == 0
    assert count(graph.graph, "matmul") == 3


def test_products_of_weights_stay_apart():
    weights = [torch.randn(8, 8), torch.randn(8, 2), torch.randn(8, 2)]

    def function(weights, x):
        kernel, a, b = weights
        first = kernel @ a
        # Both read the kernel, and the second is made of the first.
        second = kernel @ (first + b)
        return x @ first, x @ second

    graph = traced(function, weights, torch.randn(3, 8))
    assert count(graph.graph, "split_with_sizes") == 1
    assert count(graph.graph, "matmul") == 3
    x = torch.randn(3, 8)
    for a, b in zip(function(weights, x), graph(weights, x), strict=True):
        torch.testing.assert_close(a, b)


def test_matrices_made_late_are_moved_up():
    weights = [torch.randn(8, 2, requires_grad=True) for _ in range(4)]
    x = torch.randn(3, 8, requires_grad=True)

    def function(weights, x):
        first = x @ weights[0].double().float()
        scale = first.sum()
        late = torch.cat([weights[1] - weights[2], weights[2]], 1).exp()
        return first, (x @ late) * scale, x @ (weights[3] * 2)

    graph = traced(function, weights, x)
    assert count(graph.graph, "split_with_sizes") == 1
    assert count(graph.graph, "matmul") == 1

    def gradients(function):
        outputs = function(weights, x)
        total = sum((output**2).sum() for output in outputs)
        return [*outputs, *torch.autograd.grad(total, [*weights, x])]

    for a, b in zip(gradients(function), gradients(graph), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_wide_matrices_stay_apart():
    weights = [torch.randn(8, 6) for _ in range(2)]
    graph = traced(
        lambda w, x: [x @ w[0], x @ w[1]], weights, torch.randn(3, 8)
    )
    assert count(graph.graph, "matmul") == 2
