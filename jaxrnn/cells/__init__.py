"""The cells: one published equation, one class, one file."""

from jaxrnn.cells.elman import Elman, ElmanParams, ElmanState
from jaxrnn.cells.gru import GRU, GRUParams, GRUState
from jaxrnn.cells.lstm import LSTM, LSTMParams, LSTMState
from jaxrnn.cells.peephole_lstm import PeepholeLSTM, PeepholeLSTMParams, PeepholeLSTMState
from jaxrnn.cells.projected_lstm import ProjectedLSTM, ProjectedLSTMParams, ProjectedLSTMState
from jaxrnn.cells.reset_after_mgu import ResetAfterMGU, ResetAfterMGUParams, ResetAfterMGUState
from jaxrnn.cells.reset_before_gru import ResetBeforeGRU, ResetBeforeGRUParams, ResetBeforeGRUState

__all__ = [
    "GRU",
    "LSTM",
    "Elman",
    "ElmanParams",
    "ElmanState",
    "GRUParams",
    "GRUState",
    "LSTMParams",
    "LSTMState",
    "PeepholeLSTM",
    "PeepholeLSTMParams",
    "PeepholeLSTMState",
    "ProjectedLSTM",
    "ProjectedLSTMParams",
    "ProjectedLSTMState",
    "ResetAfterMGU",
    "ResetAfterMGUParams",
    "ResetAfterMGUState",
    "ResetBeforeGRU",
    "ResetBeforeGRUParams",
    "ResetBeforeGRUState",
]
