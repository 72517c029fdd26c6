"""Fuses products of one tensor with several narrow matrices into one.

Query, key and value multiply the same input, each with its own low-rank
factor. A graph shows this, and no layer has to know of another.
"""

import operator

import torch

_MATMUL = torch.ops.aten.matmul.default
# Fusing wider matrices is not faster.
_WIDEST = 128


def fuse_matmuls(graph, num_weights) -> None:
    """Fuses the products of a tensor with matrices made of weights.

    Args:
        graph: `torch.fx.Graph` of operations of torch.
        num_weights: int. Only matrices that are made of these inputs are
            fused: others may depend on each other's products.
    """
    _drop_casts_to_the_same(graph)
    nodes = list(graph.nodes)
    of_weights = _made_of(nodes, num_weights)
    products = {}
    for node in nodes:
        if node.target != _MATMUL:
            continue
        x, matrix = node.args
        # Products of a weight could be parts of other matrices.
        if x in of_weights or matrix not in of_weights:
            continue
        if _is_narrow(matrix.meta["val"].shape):
            products.setdefault(x, []).append(node)
    shared = {x: found for x, found in products.items() if len(found) > 1}
    matrices = [node.args[1] for found in shared.values() for node in found]
    _move_to_the_start(nodes, matrices)
    for x, found in shared.items():
        _join(graph, x, found)


def _is_narrow(shape):
    return len(shape) == 2 and shape[1] <= min(_WIDEST, shape[0] // 2)


def _join(graph, x, products):
    matrices = [product.args[1] for product in products]
    sizes = [matrix.meta["val"].shape[1] for matrix in matrices]
    with graph.inserting_before(products[0]):
        joined = graph.call_function(torch.ops.aten.cat.default, (matrices, 1))
        parts = graph.call_function(
            torch.ops.aten.split_with_sizes.default,
            (graph.call_function(_MATMUL, (x, joined)), sizes, -1),
        )
        for index, product in enumerate(products):
            part = graph.call_function(operator.getitem, (parts, index))
            product.replace_all_uses_with(part)
    for product in products:
        graph.erase_node(product)


def _made_of(nodes, num_weights) -> set:
    """The nodes that depend only on the first inputs, and not on chance."""
    found = set()
    for number, node in enumerate(nodes):
        if node.op == "placeholder":
            if number < num_weights:
                found.add(node)
        elif node.op == "call_function" and not node.is_impure():
            inputs = node.all_input_nodes
            if inputs and all(n in found for n in inputs):
                found.add(node)
    return found


def _move_to_the_start(nodes, needed):
    """Moves nodes and their inputs to the start of the graph."""
    needed = set(needed)
    for node in reversed(nodes):
        if node in needed:
            needed.update(node.all_input_nodes)
    last = [node for node in nodes if node.op == "placeholder"][-1]
    for node in nodes:
        if node in needed and node.op != "placeholder":
            last.append(node)
            last = node


def _drop_casts_to_the_same(graph):
    """Removes casts of tensors to the dtype that they have."""
    for node in list(graph.nodes):
        if not str(node.target).startswith("aten.to."):
            continue
        if True in node.args or node.kwargs.get("copy"):
            continue
        before, after = node.args[0].meta["val"], node.meta["val"]
        if (before.dtype, before.device) == (after.dtype, after.device):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
