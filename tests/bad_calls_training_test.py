"""Wrong calls of every public symbol that trains: each refused in words.

One row a call: the symbol, the call, the error. A public symbol without a row
fails `test_every_symbol_has_a_row`.
"""

import keras
import numpy as np
import pytest
from keras import ops

import keras_debias as kd
from tests.combinations import part

A, C, L = kd.adapters, kd.callbacks, kd.losses
galore = kd.optimizers.galore
lora_plus = kd.optimizers.lora_plus
WarmUp = kd.optimizers.WarmUp
P, R, G = kd.projections, kd.recipes, kd.regularizers
X = np.random.default_rng(0).normal(size=(12, 4)).astype("float32")
Y = (np.arange(12) % 3).astype("int32")


def network(adapted=True):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(5, name="hidden")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3, name="head")(hidden))
    if adapted:
        A.apply(model, A.LoRA(2, targets="hidden"), also_train="head")
    return model


def loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def debiased(**kwargs):
    model = kd.DebiasedModel(network(), seed=0, **kwargs)
    model.compile("sgd", loss())
    return model


def without_kernel():
    model = network(0)
    kernel = model.get_layer("hidden").kernel
    kernel.assign(np.zeros(kernel.shape))
    return model


def adam():
    return keras.optimizers.Adam()


def debiased_after_a_step():
    model = debiased()
    model.optimizer.build(model.trainable_variables)
    return model


def fit(x=X, y=Y, **kwargs):
    return lambda tmp: debiased().fit(x, y, verbose=0, **kwargs)


def grouped(ids):
    return kd.data.Split(X, Y, groups=np.asarray(ids))


def trainer(**kwargs):
    return R.Trainer(lambda updates: network(), R.Budget(epochs=1), **kwargs)


# What is no call: values, and what a function returns.
NO_CALLS = {
    "adapters.ALL_LINEAR",
    "adapters.TrainableSummary",
    "losses.identity",
    "recipes.GraspResult",
    "recipes.PublishedSetting",
}

ROWS = [
    # Adapters.
    ("adapters.Adapter", lambda tmp: A.apply(network(0), A.Adapter), TypeError),
    (
        "adapters.AdaLoRA",
        lambda tmp: A.AdaLoRA(orthogonality=-1),
        ValueError,
    ),
    ("adapters.AllBiases", lambda tmp: A.AllBiases(inject="no"), TypeError),
    ("adapters.BiasForm", lambda tmp: A.ValueBias(form=A.BiasForm), TypeError),
    (
        "adapters.CorDA",
        lambda tmp: A.CorDA(preserve_knowledge="ipm"),
        TypeError,
    ),
    ("adapters.DoRA", lambda tmp: A.DoRA(alpha="16"), ValueError),
    ("adapters.DoRA", lambda tmp: A.DoRA(rank=0), ValueError),
    ("adapters.DoRABias", lambda tmp: A.DoRABias(rank="2"), ValueError),
    (
        "adapters.export_transformers",
        lambda tmp: A.export_transformers(network(0), tmp / "new"),
        ValueError,
    ),
    ("adapters.Houlsby", lambda tmp: A.Houlsby(width=0), ValueError),
    (
        "adapters.Houlsby",
        lambda tmp: A.Houlsby(activation="magic"),
        ValueError,
    ),
    ("adapters.IA3", lambda tmp: A.IA3((), ()), ValueError),
    ("adapters.IA3", lambda tmp: A.apply(network(0), A.IA3(3), ()), TypeError),
    ("adapters.Pfeiffer", lambda tmp: A.Pfeiffer(width="48"), ValueError),
    ("adapters.KeyBias", lambda tmp: A.KeyBias(form="vector"), TypeError),
    ("adapters.LoRA", lambda tmp: A.LoRA(alpha="16"), ValueError),
    ("adapters.LoRA", lambda tmp: A.LoRA(rank=2.0), ValueError),
    ("adapters.LoRA", lambda tmp: A.LoRA(rank=True), ValueError),
    ("adapters.LoRA", lambda tmp: A.LoRA(alpha=float("nan")), ValueError),
    ("adapters.LoRA", lambda tmp: A.LoRA(dropout="0.1"), ValueError),
    ("adapters.LoRA", lambda tmp: A.LoRA(dropout=1.0), ValueError),
    ("adapters.LoRA", lambda tmp: A.LoRA(train_bias="no"), TypeError),
    ("adapters.LoRA", lambda tmp: A.LoRA(rank_stabilized=1), TypeError),
    (
        "adapters.LoRA",
        lambda tmp: A.apply(network(0), A.LoRA(targets=3), also_train="head"),
        TypeError,
    ),
    ("adapters.LoRABias", lambda tmp: A.LoRABias(rank=-1), ValueError),
    ("adapters.LoRAFA", lambda tmp: A.LoRAFA(rank=0), ValueError),
    ("adapters.LoRAGA", lambda tmp: A.LoRAGA(gamma=0), ValueError),
    ("adapters.LoftQ", lambda tmp: A.LoftQ(rank=-1), ValueError),
    ("adapters.MiLoRA", lambda tmp: A.MiLoRA(rank="8"), ValueError),
    (
        "adapters.MiLoRA",
        lambda tmp: A.apply(
            without_kernel(), A.MiLoRA(2, targets="hidden"), also_train="head"
        ),
        ValueError,
    ),
    ("adapters.OLoRA", lambda tmp: A.OLoRA(alpha=0), ValueError),
    (
        "adapters.OLoRA",
        lambda tmp: A.apply(
            network(0), A.OLoRA(targets="hidden"), also_train="head"
        ),
        ValueError,
    ),
    ("adapters.PiSSA", lambda tmp: A.PiSSA(rank="8"), ValueError),
    ("adapters.PiSSABias", lambda tmp: A.PiSSABias(rank=1.5), ValueError),
    ("adapters.PrefixTuning", lambda tmp: A.PrefixTuning(0), ValueError),
    ("adapters.PromptTuning", lambda tmp: A.PromptTuning(0), ValueError),
    (
        "adapters.PromptTuning",
        lambda tmp: A.PromptTuning(stddev=0),
        ValueError,
    ),
    (
        "adapters.PrefixTuning",
        lambda tmp: A.PrefixTuning(stddev="1"),
        ValueError,
    ),
    ("adapters.QueryBias", lambda tmp: A.QueryBias(form=1), TypeError),
    (
        "adapters.RandomEntries",
        lambda tmp: A.RandomEntries(count=2.5),
        ValueError,
    ),
    ("adapters.TargetLayer", lambda tmp: A.TargetLayer("1"), TypeError),
    (
        "adapters.TargetLayer",
        lambda tmp: A.TargetLayer(1, modules=3),
        TypeError,
    ),
    (
        "adapters.TargetLayer",
        lambda tmp: A.TargetLayer(1, refine="yes"),
        TypeError,
    ),
    ("adapters.ValueBias", lambda tmp: A.ValueBias(form="lora"), TypeError),
    ("adapters.VeRA", lambda tmp: A.VeRA(rank=0), ValueError),
    ("adapters.VeRA", lambda tmp: A.VeRA(initial_scale=0.0), ValueError),
    ("adapters.VeRA", lambda tmp: A.VeRA(seed=-1), ValueError),
    ("adapters.VeRA", lambda tmp: A.VeRA(dropout=1.0), ValueError),
    ("adapters.VeRA", lambda tmp: A.VeRA(train_bias="no"), TypeError),
    ("adapters.VeRABias", lambda tmp: A.VeRABias(rank=0), ValueError),
    (
        "adapters.VeRABias",
        lambda tmp: A.VeRABias(initial_scale="1"),
        ValueError,
    ),
    (
        "adapters.VeRAScalarBias",
        lambda tmp: A.VeRAScalarBias(seed=-1),
        ValueError,
    ),
    (
        "adapters.VectorBias",
        lambda tmp: A.ValueBias(form=A.VectorBias),
        TypeError,
    ),
    ("adapters.apply", lambda tmp: A.apply(None, A.LoRA()), TypeError),
    ("adapters.apply", lambda tmp: A.apply("model", A.LoRA()), TypeError),
    ("adapters.apply", lambda tmp: A.apply(network(0), None), TypeError),
    ("adapters.apply", lambda tmp: A.apply(network(0), []), TypeError),
    ("adapters.apply", lambda tmp: A.apply(network(0), "LoRA"), TypeError),
    (
        "adapters.apply",
        lambda tmp: A.apply(
            network(), A.LoRA(2, targets="hidden"), also_train=()
        ),
        ValueError,
    ),
    ("adapters.disabled", lambda tmp: A.disabled(None).__enter__(), TypeError),
    (
        "adapters.disabled",
        lambda tmp: A.disabled(network(0)).__enter__(),
        ValueError,
    ),
    ("adapters.export_peft", lambda tmp: A.export_peft(None, tmp), TypeError),
    (
        "adapters.export_peft",
        lambda tmp: A.export_peft(network(), tmp / "a", prefix=3),
        TypeError,
    ),
    ("adapters.load", lambda tmp: A.load(None, tmp), TypeError),
    ("adapters.load", lambda tmp: A.load(network(0), None), TypeError),
    ("adapters.load", lambda tmp: A.load(network(0), tmp), ValueError),
    ("adapters.load", lambda tmp: A.load(network(0), "a\0b"), ValueError),
    (
        "adapters.load",
        lambda tmp: A.load(network(0), tmp, trainable="yes"),
        TypeError,
    ),
    ("adapters.load", lambda tmp: A.load(network(), tmp), ValueError),
    ("adapters.merge", lambda tmp: A.merge(None), TypeError),
    ("adapters.merge", lambda tmp: A.merge(network(0)), ValueError),
    (
        "adapters.merge",
        lambda tmp: A.merge(A.merge(network())),
        ValueError,
    ),
    ("adapters.save", lambda tmp: A.save(None, tmp / "a"), TypeError),
    ("adapters.save", lambda tmp: A.save(network(), None), TypeError),
    ("adapters.save", lambda tmp: A.save(network(), ""), TypeError),
    ("adapters.save", lambda tmp: A.save(network(0), tmp / "a"), ValueError),
    (
        "adapters.save",
        lambda tmp: A.save(A.merge(network()), tmp / "a"),
        ValueError,
    ),
    (
        "adapters.save",
        lambda tmp: A.save(network(), tmp / "a", overwrite="no"),
        TypeError,
    ),
    ("adapters.summary", lambda tmp: A.summary(None), TypeError),
    # Layers.
    (
        "layers.LoRADense",
        lambda tmp: kd.layers.LoRADense(3, rank="2"),
        ValueError,
    ),
    (
        "layers.LoRAEinsumDense",
        lambda tmp: kd.layers.LoRAEinsumDense(
            "ab,bc->ac", output_shape=3, rank=2, alpha=-1
        ),
        ValueError,
    ),
    (
        "layers.DoRADense",
        lambda tmp: kd.layers.DoRADense(3, rank=2, train_kernel="no"),
        TypeError,
    ),
    (
        "layers.DoRAEinsumDense",
        lambda tmp: kd.layers.DoRAEinsumDense("ab,bc->ac", 3, rank=0),
        ValueError,
    ),
    (
        "layers.PiSSADense",
        lambda tmp: kd.layers.PiSSADense.from_layer(None, rank=2),
        ValueError,
    ),
    (
        "layers.PiSSAEinsumDense",
        lambda tmp: kd.layers.PiSSAEinsumDense("ab,bc->ac", 3, dropout=1),
        ValueError,
    ),
    ("layers.Refine", lambda tmp: kd.layers.Refine(merged=1), TypeError),
    ("layers.ValueBias", lambda tmp: kd.layers.ValueBias(0), ValueError),
    # Losses.
    (
        "losses.CorrectNContrast",
        lambda tmp: L.CorrectNContrast([0.5], 3),
        ValueError,
    ),
    (
        "losses.CorrectNContrast",
        lambda tmp: L.CorrectNContrast([0, 1], 3, weight="1"),
        ValueError,
    ),
    (
        "losses.FeatureSwap",
        lambda tmp: L.FeatureSwap(3, bias_weight="1"),
        ValueError,
    ),
    ("losses.Focal", lambda tmp: L.Focal("2"), ValueError),
    (
        "losses.GeneralizedCrossEntropy",
        lambda tmp: L.GeneralizedCrossEntropy(None),
        ValueError,
    ),
    (
        "losses.GradientAlignment",
        lambda tmp: L.GradientAlignment("ab"),
        TypeError,
    ),
    (
        "losses.GradientAlignment",
        lambda tmp: L.GradientAlignment([0.5]),
        TypeError,
    ),
    ("losses.GroupDRO", lambda tmp: L.GroupDRO("2"), TypeError),
    ("losses.GroupDRO", lambda tmp: L.GroupDRO(2, step_size="1"), ValueError),
    (
        "losses.GroupDRO",
        lambda tmp: debiased(objective=L.GroupDRO(2)).fit(
            grouped(np.arange(12) % 4), verbose=0
        ),
        ValueError,
    ),
    (
        "losses.LabelCrossEntropy",
        lambda tmp: L.LabelCrossEntropy(reduction="all"),
        ValueError,
    ),
    (
        "losses.LearnedMixin",
        lambda tmp: L.LearnedMixin([["a", "b"]]),
        TypeError,
    ),
    (
        "losses.LearnedMixin",
        lambda tmp: debiased(
            objective=L.LearnedMixin(np.full((5, 3), 1 / 3))
        ).fit(kd.data.Split(X, Y), verbose=0),
        ValueError,
    ),
    ("losses.PerRow", lambda tmp: L.PerRow(3), TypeError),
    (
        "losses.RelativeDifficulty",
        lambda tmp: L.RelativeDifficulty([-1.0]),
        ValueError,
    ),
    (
        "losses.TaskObjective",
        lambda tmp: kd.DebiasedModel(network(), objective=L.TaskObjective),
        TypeError,
    ),
    # Optimizers.
    *(
        ("optimizers.WarmUp", lambda tmp, a=a: WarmUp(*a), ValueError)
        for a in (("1",), (0,), (0.1, -1), (0.1, "1"), (0.1, 5, 5))
    ),
    ("optimizers.galore", lambda tmp: galore("adam"), TypeError),
    ("optimizers.galore", lambda tmp: galore(adam(), 0), ValueError),
    ("optimizers.galore", lambda tmp: galore(adam(), 4, 0), ValueError),
    ("optimizers.galore", lambda tmp: galore(adam(), scale=0), ValueError),
    (
        "optimizers.galore",
        lambda tmp: galore(keras.optimizers.Nadam()),
        ValueError,
    ),
    (
        "optimizers.galore",
        lambda tmp: galore(debiased_after_a_step().optimizer),
        ValueError,
    ),
    (
        "optimizers.galore",
        lambda tmp: galore(adam(), 999).build(network(0).variables),
        ValueError,
    ),
    ("optimizers.lora_plus", lambda tmp: lora_plus("adam"), TypeError),
    ("optimizers.lora_plus", lambda tmp: lora_plus(adam(), "16"), ValueError),
    ("optimizers.lora_plus", lambda tmp: lora_plus(adam(), 0), ValueError),
    (
        "optimizers.lora_plus",
        lambda tmp: lora_plus(lora_plus(adam())),
        ValueError,
    ),
    (
        "optimizers.lora_plus",
        lambda tmp: lora_plus(keras.optimizers.Nadam()),
        ValueError,
    ),
    (
        "optimizers.lora_plus",
        lambda tmp: lora_plus(keras.optimizers.LossScaleOptimizer(adam())),
        ValueError,
    ),
    (
        "optimizers.lora_plus",
        lambda tmp: lora_plus(debiased_after_a_step().optimizer),
        ValueError,
    ),
    (
        "optimizers.lora_plus",
        lambda tmp: lora_plus(adam()).build(network(0).variables),
        ValueError,
    ),
    # Projections.
    ("projections.EDGE", lambda tmp: P.EDGE(alpha="1"), ValueError),
    ("projections.EDGE", lambda tmp: P.EDGE(q="1"), ValueError),
    ("projections.EDGE", lambda tmp: P.EDGE(scope="all"), ValueError),
    ("projections.EDGE", lambda tmp: P.EDGE(common="no"), TypeError),
    ("projections.EDGE", lambda tmp: P.EDGE(refresh=1.5), TypeError),
    ("projections.Orthogonal", lambda tmp: P.Orthogonal(q=0), ValueError),
    (
        "projections.Projection",
        lambda tmp: kd.DebiasedModel(network(), P.Projection),
        TypeError,
    ),
    (
        "projections.PublishedEDGE",
        lambda tmp: P.PublishedEDGE(alpha=None),
        ValueError,
    ),
    ("projections.Subspace", lambda tmp: P.Subspace("query"), TypeError),
    ("projections.Subtraction", lambda tmp: P.Subtraction("1"), ValueError),
    (
        "projections.TaskOnly",
        lambda tmp: kd.DebiasedModel(network(), P.TaskOnly),
        TypeError,
    ),
    # Regularizers.
    ("regularizers.Consistency", lambda tmp: G.Consistency("1"), ValueError),
    (
        "regularizers.Consistency",
        lambda tmp: G.Consistency(temperature="2"),
        ValueError,
    ),
    ("regularizers.Diversity", lambda tmp: G.Diversity(None), ValueError),
    ("regularizers.LabelBalance", lambda tmp: G.LabelBalance("1"), ValueError),
    (
        "regularizers.LabelDiscrimination",
        lambda tmp: G.LabelDiscrimination(cap="1"),
        ValueError,
    ),
    (
        "regularizers.LabelPropensity",
        lambda tmp: G.LabelPropensity(smoothing="1"),
        ValueError,
    ),
    (
        "regularizers.Regularizer",
        lambda tmp: kd.DebiasedModel(network(), regularizers=G.Diversity),
        TypeError,
    ),
    (
        "regularizers.SpectralConcentration",
        lambda tmp: G.SpectralConcentration(k="5"),
        ValueError,
    ),
    (
        "regularizers.SpectralNorm",
        lambda tmp: G.SpectralConcentration(norm="nuclear"),
        ValueError,
    ),
    ("regularizers.TeacherCache", lambda tmp: G.TeacherCache(3), TypeError),
    ("regularizers.TopKEntropy", lambda tmp: G.TopKEntropy(k=0), ValueError),
    (
        "regularizers.TwoPhase",
        lambda tmp: G.TwoPhase(0.1, steps="9"),
        ValueError,
    ),
    (
        "regularizers.TwoPhase",
        lambda tmp: G.TwoPhase(0.1, 9, warmup="0"),
        ValueError,
    ),
    ("regularizers.ba_lora", lambda tmp: G.ba_lora(scale="1"), ValueError),
    ("regularizers.ba_lora", lambda tmp: G.ba_lora(True), ValueError),
    ("regularizers.ba_lora", lambda tmp: G.ba_lora("yes"), TypeError),
    # Callbacks.
    (
        "callbacks.BackupAndRestore",
        lambda tmp: C.BackupAndRestore(""),
        TypeError,
    ),
    (
        "callbacks.BackupAndRestore",
        lambda tmp: C.BackupAndRestore(tmp, delete_checkpoint="no"),
        TypeError,
    ),
    (
        "callbacks.BiasTermTracking",
        lambda tmp: C.BiasTermTracking(measure="change"),
        TypeError,
    ),
    (
        "callbacks.GradientCosine",
        lambda tmp: network().fit(
            X, Y, verbose=0, callbacks=[C.GradientCosine()]
        ),
        (TypeError, ValueError),
    ),
    (
        "callbacks.GradientCosine",
        lambda tmp: C.GradientCosine("bias"),
        TypeError,
    ),
    (
        "callbacks.RankAllocator",
        lambda tmp: kd.callbacks.RankAllocator(target_rank=0),
        ValueError,
    ),
    (
        "callbacks.OODEvaluation",
        lambda tmp: C.OODEvaluation({"a": kd.data.Split(X, Y)}, every="1"),
        TypeError,
    ),
    (
        "callbacks.OODEvaluation",
        lambda tmp: C.OODEvaluation(
            {"a": kd.data.Split(X, Y)}, metrics=["accuracy"]
        ),
        ValueError,
    ),
    (
        "callbacks.OODEvaluation",
        lambda tmp: C.OODEvaluation(
            {"a": kd.data.Split(X, Y)}, tune_threshold_on=X
        ),
        TypeError,
    ),
    (
        "callbacks.TargetLayerFreezing",
        lambda tmp: C.TargetLayerFreezing("1", layer=0),
        ValueError,
    ),
    # Recipes.
    ("recipes.Ablation", lambda tmp: R.Ablation(k="1"), ValueError),
    ("recipes.Ablation", lambda tmp: R.Ablation(random=1), TypeError),
    ("recipes.Truncation", lambda tmp: R.Truncation(k=None), ValueError),
    ("recipes.Truncation", lambda tmp: R.Truncation(energy=0.5), ValueError),
    ("recipes.AFR", lambda tmp: R.AFR(gamma=-1.0), ValueError),
    ("recipes.AFR", lambda tmp: R.AFR(penalty=0.0), ValueError),
    (
        "recipes.ClassLabels",
        lambda tmp: R.GroupDRO(groups=R.ClassLabels),
        TypeError,
    ),
    ("recipes.Clusters", lambda tmp: R.Clusters("8"), TypeError),
    ("recipes.Clusters", lambda tmp: R.Clusters(1), ValueError),
    (
        "recipes.CoTrainedClusters",
        lambda tmp: R.CoTrainedClusters(bins=0),
        ValueError,
    ),
    ("recipes.EDGE", lambda tmp: R.EDGE(bias_only=3), TypeError),
    ("recipes.FindingGroups", lambda tmp: R.FindingGroups("zz"), TypeError),
    ("recipes.FrozenProbe", lambda tmp: R.FrozenProbe(None), TypeError),
    ("recipes.GRASP", lambda tmp: R.GRASP(k=0), ValueError),
    (
        "recipes.InversePropensitySampling",
        lambda tmp: R.InversePropensitySampling(views=3),
        TypeError,
    ),
    (
        "recipes.RakedSampling",
        lambda tmp: R.RakedSampling(R.Clusters(2), min_effective=2),
        ValueError,
    ),
    *(
        ("recipes.published", lambda tmp, a=a: R.published(*a), ValueError)
        for a in (
            (None, "bert_base", "rte", 9),
            ("beft", 3, "rte", 9),
            ("beft", "bert_base", "rte", 0),
        )
    ),
    ("recipes.ProbeHint", lambda tmp: R.ProbeHint(confident=0), ValueError),
    (
        "recipes.ProductOfExperts",
        lambda tmp: R.ProductOfExperts(bias_only=3),
        TypeError,
    ),
    (
        "recipes.Recommendation",
        lambda tmp: R.Recommendation(3, "a reason"),
        TypeError,
    ),
    (
        "recipes.Recommended",
        lambda tmp: R.Recommended().fit(
            trainer(), kd.data.Split(X, np.zeros(len(X), "int32"))
        ),
        ValueError,
    ),
    ("recipes.ShallowHint", lambda tmp: R.ShallowHint("half"), TypeError),
    ("recipes.ShallowModel", lambda tmp: R.ShallowModel(folds=1), ValueError),
    (
        "recipes.AuditGroups",
        lambda tmp: R.AuditGroups(min_count="20"),
        ValueError,
    ),
    ("recipes.BagOfWords", lambda tmp: R.BagOfWords(C="1"), ValueError),
    ("recipes.BagOfWords", lambda tmp: R.BagOfWords(folds=1), ValueError),
    (
        "recipes.BalancedSampling",
        lambda tmp: R.BalancedSampling(groups="cue"),
        TypeError,
    ),
    ("recipes.Budget", lambda tmp: R.Budget(), ValueError),
    ("recipes.Budget", lambda tmp: R.Budget(epochs="2"), ValueError),
    (
        "recipes.Budget",
        lambda tmp: R.Budget(epochs=1, batch_size=0),
        ValueError,
    ),
    (
        "recipes.Budget",
        lambda tmp: R.Budget(epochs=1, batch_size=2.5),
        ValueError,
    ),
    (
        "recipes.Budget",
        lambda tmp: R.Budget(epochs=1, batch_size="32"),
        ValueError,
    ),
    ("recipes.CNC", lambda tmp: R.CNC(weight="1"), ValueError),
    ("recipes.CNC", lambda tmp: R.CNC(first_share="0.3"), ValueError),
    (
        "recipes.CounterfactualInference",
        lambda tmp: R.CounterfactualInference(blind=3),
        TypeError,
    ),
    (
        "recipes.CounterfactualInference",
        lambda tmp: R.CounterfactualInference(scale="1"),
        ValueError,
    ),
    (
        "recipes.XRM",
        lambda tmp: R.XRM(share="1"),
        ValueError,
    ),
    ("recipes.Curriculum", lambda tmp: R.Curriculum(start="1"), ValueError),
    (
        "recipes.Curriculum",
        lambda tmp: R.Curriculum(bias_only="words"),
        TypeError,
    ),
    ("recipes.DFA", lambda tmp: R.DFA(swap_weight="1"), ValueError),
    ("recipes.DFR", lambda tmp: R.DFR(C=None), ValueError),
    ("recipes.DFR", lambda tmp: R.DFR(held_out=1.0), ValueError),
    (
        "recipes.FineTuning",
        lambda tmp: R.FineTuning(projection="EDGE"),
        TypeError,
    ),
    (
        "recipes.GradientAlignment",
        lambda tmp: R.GradientAlignment(gamma="1"),
        ValueError,
    ),
    ("recipes.GroupDRO", lambda tmp: R.GroupDRO(step_size="1"), ValueError),
    ("recipes.GroupDRO", lambda tmp: R.GroupDRO(balanced="no"), TypeError),
    (
        "recipes.GroupInference",
        lambda tmp: R.GroupDRO(groups=R.GroupInference),
        TypeError,
    ),
    (
        "recipes.GroupRecipe",
        lambda tmp: R.BalancedSampling(groups=R.GroupRecipe),
        TypeError,
    ),
    ("recipes.JTT", lambda tmp: R.JTT(upweight="6"), ValueError),
    (
        "recipes.LearnedMixin",
        lambda tmp: R.LearnedMixin(bias_only=None),
        TypeError,
    ),
    (
        "recipes.LearningFromFailure",
        lambda tmp: R.LearningFromFailure(q="1"),
        ValueError,
    ),
    (
        "recipes.Recipe",
        lambda tmp: kd.compare(
            {"a": R.Recipe},
            kd.data.Split(X, Y),
            kd.data.Split(X, Y),
            [0],
            network,
            R.Budget(epochs=1),
        ),
        TypeError,
    ),
    (
        "recipes.Reweighting",
        lambda tmp: R.Reweighting(bias_only=3),
        TypeError,
    ),
    (
        "recipes.SimpleFeatures",
        lambda tmp: R.SimpleFeatures(folds="5"),
        ValueError,
    ),
    (
        "recipes.Trainer",
        lambda tmp: R.Trainer(None, R.Budget(epochs=1)),
        TypeError,
    ),
    (
        "recipes.Trainer",
        lambda tmp: R.Trainer(network(), R.Budget(epochs=1)),
        TypeError,
    ),
    (
        "recipes.Trainer",
        lambda tmp: R.Trainer(lambda: None, R.Budget(epochs=1)),
        TypeError,
    ),
    ("recipes.Trainer", lambda tmp: trainer(seed=-1), ValueError),
    ("recipes.Trainer", lambda tmp: trainer(seed="0"), ValueError),
    ("recipes.Trainer", lambda tmp: R.Trainer(network, 3), TypeError),
    ("recipes.agreement", lambda tmp: R.agreement(None, None), TypeError),
    (
        "recipes.grasp",
        lambda tmp: R.grasp(None, None, X, Y, optimizer="sgd", loss=loss()),
        TypeError,
    ),
    ("recipes.recommended", lambda tmp: R.recommended(None), TypeError),
    (
        "callbacks.ValidationCriterion",
        lambda tmp: kd.callbacks.ValidationCriterion(None, None),
        TypeError,
    ),
    (
        "losses.BiasWeighted",
        lambda tmp: kd.losses.BiasWeighted([0.5, 2.0]),
        ValueError,
    ),
    (
        "losses.BiasWeighted",
        lambda tmp: kd.losses.BiasWeighted([0.5, 1.0], q="0.7"),
        ValueError,
    ),
    (
        "losses.ProductOfExperts",
        lambda tmp: kd.losses.ProductOfExperts([[0.5, 0.2]]),
        ValueError,
    ),
    # Training.
    ("DebiasedModel", lambda tmp: kd.DebiasedModel(None), TypeError),
    ("DebiasedModel", lambda tmp: kd.DebiasedModel(debiased()), TypeError),
    ("DebiasedModel", lambda tmp: debiased(projection="EDGE"), TypeError),
    ("DebiasedModel", lambda tmp: debiased(objective="DRO"), TypeError),
    (
        "DebiasedModel",
        lambda tmp: kd.DebiasedModel(network(), seed=-1),
        ValueError,
    ),
    (
        "DebiasedModel",
        lambda tmp: kd.DebiasedModel(network(), seed=2**40),
        ValueError,
    ),
    (
        "DebiasedModel",
        lambda tmp: kd.DebiasedModel(network(), seed="1"),
        ValueError,
    ),
    ("DebiasedModel", fit(batch_size=0), ValueError),
    ("DebiasedModel", fit(batch_size=-1), ValueError),
    ("DebiasedModel", fit(batch_size=2.5), ValueError),
    ("DebiasedModel", fit(batch_size="8"), ValueError),
    ("DebiasedModel", fit(steps_per_epoch=0), ValueError),
    ("DebiasedModel", fit(epochs=1, sample_weight=np.ones(5)), ValueError),
    ("DebiasedModel", fit(x=None), TypeError),
    ("DebiasedModel", fit(x="text"), TypeError),
    ("DebiasedModel", fit(y=np.eye(3, dtype="int32")[Y]), ValueError),
    ("DebiasedModel", fit(y=Y - 1), ValueError),
    ("DebiasedModel", fit(y=Y + 0.5), TypeError),
    ("DebiasedModel", fit(y=np.array(["a", "b", "c"] * 4)), TypeError),
    ("DebiasedModel", fit(x=X[:0], y=Y[:0]), ValueError),
    ("DebiasedModel", fit(validation_split=1.5), ValueError),
    ("DebiasedModel", fit(class_weight={0: 2}, sample_weight=Y), ValueError),
    (
        "DebiasedModel",
        lambda tmp: debiased().predict(X, batch_size=0),
        ValueError,
    ),
    (
        "DebiasedModel",
        lambda tmp: debiased().evaluate(X, Y, batch_size=-1),
        ValueError,
    ),
    (
        "DebiasedModel",
        lambda tmp: kd.DebiasedModel(network()).fit(X, Y),
        ValueError,
    ),
    (
        "balance_regularizers",
        lambda tmp: kd.balance_regularizers(None, (X, Y)),
        ValueError,
    ),
    (
        "balance_regularizers",
        lambda tmp: kd.balance_regularizers(debiased(), (X, Y)),
        ValueError,
    ),
    (
        "balance_regularizers",
        lambda tmp: kd.balance_regularizers(
            debiased(regularizers=G.Diversity()), (X, Y), scale="1"
        ),
        ValueError,
    ),
]


@pytest.mark.once
def test_every_symbol_has_a_row():
    modules = {
        name: getattr(kd, name)
        for name in ("adapters", "layers", "losses", "optimizers")
        + ("projections", "regularizers", "callbacks", "recipes")
    }
    public = {
        f"{name}.{symbol}"
        for name, module in modules.items()
        for symbol in module.__all__
    }
    public |= {"DebiasedModel", "balance_regularizers"}
    assert public - NO_CALLS - {symbol for symbol, _, _ in ROWS} == set()


@pytest.mark.parametrize(
    "number",
    # All that is about steps; of the checks of arguments, a part off torch.
    sorted(
        {i for i, (s, _, _) in enumerate(ROWS) if s == "DebiasedModel"}
        | set(part(range(len(ROWS))))
    ),
    ids=lambda i: f"{ROWS[i][0]}-{i}",
)
def test_a_wrong_call_is_refused_in_words(number, tmp_path):
    _, call, error = ROWS[number]
    with pytest.raises(error) as raised:
        call(tmp_path)
    # Our words, not those of something deep inside.
    assert "eceived" in str(raised.value) or "call `compile()`" in str(
        raised.value
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"y": Y + 5}])
def test_a_refused_fit_leaves_the_model(wrong):
    model = debiased()
    before = [np.array(ops.convert_to_numpy(v)) for v in model.variables]
    with pytest.raises(ValueError):
        model.fit(**{"x": X, "y": Y, "verbose": 0, **wrong})
    for variable, value in zip(model.variables, before):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), value)
    model.fit(X, Y, verbose=0)
