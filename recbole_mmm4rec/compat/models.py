"""Repairs of RecBole's stock models."""

from __future__ import annotations

import copy
from functools import wraps
from types import ModuleType, SimpleNamespace
from typing import Any

from recbole_mmm4rec.compat.tools import ModuleView


def fill_sparse_matrices(module: ModuleType) -> None:
    """Let the graph models build their adjacency matrix.

    Broken: ``dok_matrix._update`` (model/general_recommender/lightgcn.py:111 and six more) left SciPy in 1.13 (#2034).
    """
    sparse = module.sp

    class UpdatableMatrix(sparse.dok_matrix):  # type: ignore[name-defined]
        """SciPy's dictionary of keys, with the method that RecBole calls."""

        def _update(self, data: dict[tuple[int, int], Any]) -> None:
            rows, columns = zip(*data, strict=True) if data else ((), ())
            filled = sparse.coo_matrix((list(data.values()), (rows, columns)), shape=self.shape, dtype=self.dtype)
            self._dict = filled.todok()._dict

    if not hasattr(sparse.dok_matrix, "_update"):
        vars(module)["sp"] = ModuleView(sparse, dok_matrix=UpdatableMatrix)


def embed_several_numbers(module: ModuleType) -> None:
    """Let feature-rich sequential models take more than one numerical feature.

    Broken: ``embed_input_fields`` (model/layers.py, ``ContextSeqEmbAbstractLayer``) puts the pairs (value, bucket) of
    several columns into one row of numbers, which ``FLEmbedding`` cannot split (#1554, #1983).
    """
    layer = module.ContextSeqEmbAbstractLayer
    original = layer.embed_float_fields

    @wraps(original)
    def embed_float_fields(self: Any, float_fields: Any, type: str, embed: bool = True) -> Any:
        if float_fields is not None:
            float_fields = float_fields.reshape(*float_fields.shape[:-2], -1, 2)
        return original(self, float_fields, type, embed)

    layer.embed_float_fields = embed_float_fields


def count_each_feature_once(module: ModuleType) -> None:
    """Let SASRecF take columns of several numbers.

    Broken: ``__init__`` (model/sequential_recommender/sasrecf.py:43) counts such a column as that many features, and
    its feature layer gives one embedding for it (#2196). The module's own name ``FeatureType`` hides RecBole's.
    """
    vars(module)["FeatureType"] = SimpleNamespace(FLOAT_SEQ=None)


_COUNTERS = {
    "MultiVAE": ("update",),
    "MacridVAE": ("update",),
    "RaCT": ("update",),
    "DiffRec": ("Lt_history", "Lt_count"),
    "LDiffRec": ("Lt_history", "Lt_count", "update_count", "update_count_vae"),
    "LINE": ("random_list", "random_pr"),
}


def keep_what_training_counts(module: ModuleType) -> None:
    """Keep in a checkpoint what a training goes on from beside its weights.

    How far the annealing of variational models is, the losses that DiffRec draws steps by, the users that LINE draws.

    Broken: ``self.update`` (model/general_recommender/multivae.py:89, macridvae.py:134, ract.py:133, ldiffrec.py:310)
    ``Lt_history`` (diffrec.py:125) and ``random_list`` (line.py:65) are no parameters, and a training that goes on
    begins with them anew.
    """
    for name, counters in _COUNTERS.items():
        kind = vars(module).get(name)
        if kind is not None and kind.__module__ == module.__name__:
            kind.other_parameter_name = list(counters)


def attend_as_before(module: ModuleType) -> None:
    """Let KGAT go on with the attention that its last epoch has ended with.

    Broken: ``A_in`` (model/knowledge_aware_recommender/kgat.py:302) follows from the weights after each epoch and is in
    no checkpoint, so that a training that goes on, and one that is loaded, has that of an untrained model.
    """
    kind = module.KGAT
    original = kind.load_other_parameter

    @wraps(original)
    def load_other_parameter(self: Any, para: Any) -> None:
        original(self, para)
        with module.torch.no_grad():
            self.update_attentive_A()

    kind.load_other_parameter = load_other_parameter


def collect_numbers(module: ModuleType) -> None:
    """Let metrics of coverage and popularity be computed, and long evaluations be collected in linear time.

    Broken: ``Collector.get_data_struct`` (evaluator/collector.py:226) moves everything to the processor, also numbers
    and counters, which know no ``cpu()``: ItemCoverage, GiniIndex, ShannonEntropy, AveragePopularity and
    TailPercentage end the run after its first epoch. ``DataStruct.update_tensor`` (evaluator/collector.py:44) copies
    all that was collected with every batch, of which models without histories have one a user.
    """
    collector = module.Collector
    once = ("rec.topk", "rec.meanrank", "rec.score", "rec.items", "data.label")

    def update_tensor(self: Any, name: str, value: Any) -> None:
        self._data_dict.setdefault(name, []).append(value.clone().detach())

    def get_data_struct(self: Any) -> Any:
        values = self.data_struct._data_dict
        for key, value in values.items():
            whole = module.torch.cat(value) if isinstance(value, list) and key in once else value
            values[key] = whole.cpu() if hasattr(whole, "cpu") else whole
        returned = copy.deepcopy(self.data_struct)
        for key in once:
            if key in self.data_struct:
                del self.data_struct[key]
        return returned

    module.DataStruct.update_tensor = update_tensor
    collector.get_data_struct = get_data_struct


def count_every_interaction(module: ModuleType) -> None:
    """Let Pop count each interaction once, and nothing else.

    Broken: ``calculate_loss`` (model/general_recommender/pop.py:46) adds 1 to each item of a batch, however often it is
    in there, so that ranking and metrics depend on the batch size, and are the worse the larger it is (#2198, #1844).
    It also counts the negative items that RecBole draws for it by default, as many as there are interactions.
    """
    pop = module.Pop
    prepare = pop.__init__

    @wraps(prepare)
    def __init__(self: Any, config: Any, dataset: Any) -> None:  # noqa: N807  it takes the place of that method
        prepare(self, config, dataset)
        self.LABEL = config["LABEL_FIELD"]

    @wraps(pop.calculate_loss)
    def calculate_loss(self: Any, interaction: Any) -> Any:
        items = interaction[self.ITEM_ID]
        if self.LABEL in interaction.columns:
            items = items[interaction[self.LABEL] > 0]
        self.item_cnt += module.torch.bincount(items, minlength=self.n_items).unsqueeze(1)
        self.max_cnt = self.item_cnt.max(dim=0)[0]
        return module.torch.nn.Parameter(module.torch.zeros(1)).to(self.device)

    pop.__init__, pop.calculate_loss = __init__, calculate_loss


def switch_anomaly_detection_off(module: ModuleType) -> None:
    """Undo what importing one model does to all of them.

    Broken: model/sequential_recommender/sine.py:25 switches PyTorch's anomaly detection on for the whole process, and
    RecBole imports that module with every sequential model. Backward passes then trace every operation, take about
    twice as long, and end with an error at the first overflow that a gradient scaler would have handled.
    """
    module.torch.autograd.set_detect_anomaly(False)
