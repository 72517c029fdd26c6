"""Settings for the whole suite; imported before anything imports Keras."""

import gc
import os
import pathlib
import sys

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# No test may reach for a hub.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "agg")
if os.environ["KERAS_BACKEND"] == "jax":
    # The models are tiny: compiling them is most of the work. Without these a
    # test takes up to half as long again.
    os.environ.setdefault(
        "XLA_FLAGS",
        "--xla_backend_optimization_level=0 "
        "--xla_cpu_use_fusion_emitters=false "
        "--xla_cpu_parallel_codegen_split_count=1",
    )
    # What one test, worker or run has compiled, another need not.
    os.environ.setdefault(
        "JAX_COMPILATION_CACHE_DIR",
        str(pathlib.Path(__file__).parent.parent / ".jax_cache"),
    )
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import pytest  # noqa: E402

BACKEND = os.environ["KERAS_BACKEND"]

# Only the training step asks for the backend (layering_test.py). It, the
# equations and every contract are tested on all; the rest once, on torch.
ON_TORCH = """
    adapters/export_peft_test.py adapters/export_transformers_test.py
    adapters/folders_test.py adapters/injected_failures_test.py
    adapters/patterns_test.py adapters/peft_beft_test.py
    adapters/peft_ia3_test.py adapters/peft_prefix_test.py
    adapters/peft_process_test.py adapters/peft_prompt_test.py
    adapters/peft_real_test.py adapters/peft_starts_test.py
    adapters/peft_test.py
    analysis/smollm2_test.py
    architectures_test.py
    auditing
    backend_test.py
    bad_calls_analysis_test.py bad_calls_data_test.py
    cli
    comparison/comparison_test.py comparison/keep_test.py
    comparison/metrics_compare_test.py comparison/workers_test.py
    comparison/worst_cell_test.py
    data
    dependencies_test.py docs_test.py docstrings_test.py
    evaluation/diagnosis_test.py evaluation/intervals_test.py
    evaluation/label_report_test.py evaluation/metrics_test.py
    evaluation/reliance_test.py evaluation/representation_test.py
    evaluation/scores_test.py
    fuzz
    layer_roles_test.py layering_test.py
    pages_test.py presets_save_test.py
    quickstart_test.py
    recipes/afr_test.py recipes/annotation_artifacts_test.py
    recipes/audit_groups_test.py recipes/directions_test.py
    recipes/finding_groups_test.py recipes/grasp_recipe_test.py
    recipes/group_inference_test.py recipes/image_groups_test.py
    recipes/published_test.py recipes/simple_features_test.py
    saved_files_test.py
"""
# Of these files, one test on each of the other backends.
ONE_ELSEWHERE = {
    "comparison/compare_test.py": "test_all_methods_get_the_same_updates",
    "recipes/recipes_test.py": (
        "test_robust_recipes_help_where_the_shortcut_is_planted"
    ),
}
if BACKEND != "torch":
    collect_ignore = ON_TORCH.split()


# What takes most of the time. It comes first, the longest before the others, so
# that no worker ends long after the other; `make test-fast` leaves it out.
SLOW = (
    "guides_test.py",
    "quickstart_test.py",
    "training/distributed_test.py",
    "training/compiled_step_test.py",
    "adapters/generate_test.py",
    "adapters/peft_process_test.py",
    "adapters/peft_real_test.py",
    "adapters/prefix_test.py",
    "adapters/prompt_test.py",
    "adapters/seq2seq_test.py",
    "analysis/latent_factors_test.py",
    "analysis/smollm2_test.py",
    "auditing/audit_test.py",
    "callbacks/backup_and_restore_test.py",
    "comparison/compare_test.py",
    "comparison/workers_test.py",
    "contract_test.py",
    "efficientnet_lite0_test.py",
    "presets_save_test.py",
    "recipes/grasp_recipe_test.py",
    "training/data_kinds_test.py",
    "training/regularizers_models_test.py",
    "training/saving_test.py",
    "training/shared_products_test.py",
)


# Tests of other files that take over a second: `make test-fast` has no time.
SLOW_TESTS = frozenset(
    (pathlib.Path(__file__).parent / "slow.txt").read_text().split()
)


def file_of(item):
    return item.path.relative_to(pathlib.Path(__file__).parent).as_posix()


def is_once(item):
    one = ONE_ELSEWHERE.get(file_of(item), item.originalname)
    return item.get_closest_marker("once") or item.originalname != one


def pytest_collection_modifyitems(config, items):
    def place(item):
        name = file_of(item)
        return SLOW.index(name) if name in SLOW else len(SLOW)

    for item in items:
        name = item.nodeid.removeprefix("tests/").partition("[")[0]
        if place(item) < len(SLOW) or name in SLOW_TESTS:
            item.add_marker("slow")
    if BACKEND != "torch":
        elsewhere = [item for item in items if is_once(item)]
        config.hook.pytest_deselected(items=elsewhere)
        items[:] = [item for item in items if item not in set(elsewhere)]
    items.sort(key=place)


@pytest.fixture(scope="session", autouse=True)
def imports_stay():
    """Takes all that is imported out of what garbage collection looks at.

    It is half a second a time, and Keras collects at each layer it quantizes.
    Tracing makes hundreds of thousands of objects, few of them garbage, and
    jax has something called at each collection.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1_000)


@pytest.fixture(autouse=True)
def isolated():
    """Gives every test the same seed and no state of an earlier one."""
    import keras

    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="session", autouse=True)
def data_is_not_tuned():
    """Takes the thread that tunes it from each iterator of `tf.data`.

    It may miss that its iterator goes, which then waits for it, for up to a
    minute. KerasHub's preprocessors are `tf.data` on every backend.
    """
    if "tensorflow" in sys.modules:
        import tensorflow as tf
        from tensorflow.python.data.ops.dataset_ops import DatasetV2

        options, start = tf.data.Options(), DatasetV2.__iter__
        options.autotune.enabled = False
        # Rewriting a graph takes 20 ms, and it runs for a few batches.
        options.experimental_optimization.apply_default_optimizations = False
        options.experimental_optimization.inject_prefetch = False
        DatasetV2.__iter__ = lambda self: start(self.with_options(options))


@pytest.fixture(scope="session", autouse=True)
def graphs_are_cheap():
    """Takes out of TensorFlow what pays in long runs only."""
    if BACKEND == "tensorflow":
        from tensorflow.python.util import tf_stack

        from tests.processes import as_in_the_suite

        as_in_the_suite()
        # Nobody reads which lines of Python made an operation.
        stack = tf_stack.extract_stack()
        tf_stack.extract_stack = lambda stacklevel=1: stack


if BACKEND == "tensorflow":

    @pytest.fixture(autouse=True)
    def graphs_go():
        """Lets go of the graphs of a test, ten gigabytes over the suite.

        Keras' optimizer takes the mean over replicas, whose gradient holds
        the graph, and tensorflow keeps it under a name for good.
        """
        from tensorflow.python.framework.ops import gradient_registry

        registered = gradient_registry._registry
        before = set(registered)
        yield
        for name in set(registered) - before:
            if name.startswith("CustomGradient-"):
                del registered[name]


@pytest.fixture(scope="session")
def data_folder():
    """Folder of the real datasets (`KERAS_DEBIAS_DATA`), or `None`."""
    folder = os.environ.get("KERAS_DEBIAS_DATA")
    return pathlib.Path(folder) if folder else None
