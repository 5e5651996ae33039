"""The cells: one published equation, one class, one file."""

from jaxrnn.cells.atr import ATR, ATRParams, ATRState
from jaxrnn.cells.cfn import CFN, CFNParams, CFNState
from jaxrnn.cells.elman import Elman, ElmanParams, ElmanState
from jaxrnn.cells.gru import GRU, GRUParams, GRUState
from jaxrnn.cells.light_ru import LightRU, LightRUParams, LightRUState
from jaxrnn.cells.ligru import LiGRU, LiGRUParams, LiGRUState
from jaxrnn.cells.lstm import LSTM, LSTMParams, LSTMState
from jaxrnn.cells.mgu import MGU, MGUParams, MGUState
from jaxrnn.cells.miru1 import MiRU1, MiRU1Params, MiRU1State
from jaxrnn.cells.miru2 import MiRU2, MiRU2Params, MiRU2State
from jaxrnn.cells.mut1 import MUT1, MUT1Params, MUT1State
from jaxrnn.cells.mut2 import MUT2, MUT2Params, MUT2State
from jaxrnn.cells.mut3 import MUT3, MUT3Params, MUT3State
from jaxrnn.cells.peephole_lstm import PeepholeLSTM, PeepholeLSTMParams, PeepholeLSTMState
from jaxrnn.cells.projected_lstm import ProjectedLSTM, ProjectedLSTMParams, ProjectedLSTMState
from jaxrnn.cells.reset_after_mgu import ResetAfterMGU, ResetAfterMGUParams, ResetAfterMGUState
from jaxrnn.cells.reset_before_gru import ResetBeforeGRU, ResetBeforeGRUParams, ResetBeforeGRUState

__all__ = [
    "ATR",
    "CFN",
    "GRU",
    "LSTM",
    "MGU",
    "MUT1",
    "MUT2",
    "MUT3",
    "ATRParams",
    "ATRState",
    "CFNParams",
    "CFNState",
    "Elman",
    "ElmanParams",
    "ElmanState",
    "GRUParams",
    "GRUState",
    "LSTMParams",
    "LSTMState",
    "LiGRU",
    "LiGRUParams",
    "LiGRUState",
    "LightRU",
    "LightRUParams",
    "LightRUState",
    "MGUParams",
    "MGUState",
    "MUT1Params",
    "MUT1State",
    "MUT2Params",
    "MUT2State",
    "MUT3Params",
    "MUT3State",
    "MiRU1",
    "MiRU1Params",
    "MiRU1State",
    "MiRU2",
    "MiRU2Params",
    "MiRU2State",
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
