"""The cells: one published equation, one class, one file."""

from jaxrnn.cells._search import question, suggestions
from jaxrnn.cells.antisymmetric_rnn import AntisymmetricRNN, AntisymmetricRNNParams, AntisymmetricRNNState
from jaxrnn.cells.atr import ATR, ATRGates, ATRParams, ATRState
from jaxrnn.cells.brc import BRC, BRCGates, BRCParams, BRCState
from jaxrnn.cells.capped_lstm import CappedLSTM, CappedLSTMGates, CappedLSTMParams, CappedLSTMState
from jaxrnn.cells.cfc import CfC, CfCParams, CfCState
from jaxrnn.cells.cfn import CFN, CFNGates, CFNParams, CFNState
from jaxrnn.cells.clockwork_rnn import ClockworkRNN, ClockworkRNNParams, ClockworkRNNState
from jaxrnn.cells.conv_gru import ConvGRU, ConvGRUGates, ConvGRUParams, ConvGRUState
from jaxrnn.cells.conv_lstm import ConvLSTM, ConvLSTMGates, ConvLSTMParams, ConvLSTMState
from jaxrnn.cells.cornn import CoRNN, CoRNNParams, CoRNNState
from jaxrnn.cells.coupled_lstm import CoupledLSTM, CoupledLSTMGates, CoupledLSTMParams, CoupledLSTMState
from jaxrnn.cells.damped_ema import DampedEMA, DampedEMAParams, DampedEMAState
from jaxrnn.cells.delta_net import DeltaNet, DeltaNetParams, DeltaNetState
from jaxrnn.cells.dotrnn import DOTRNN, DOTRNNParams, DOTRNNState
from jaxrnn.cells.dsgu import DSGU, DSGUGates, DSGUParams, DSGUState
from jaxrnn.cells.dtrnn import DTRNN, DTRNNParams, DTRNNState
from jaxrnn.cells.dtsrnn import DTSRNN, DTSRNNParams, DTSRNNState
from jaxrnn.cells.echo_state import EchoState, EchoStateParams, EchoStateState
from jaxrnn.cells.elman import Elman, ElmanParams, ElmanState
from jaxrnn.cells.exprnn import ExpRNN, ExpRNNParams, ExpRNNState
from jaxrnn.cells.factorized_lstm import FactorizedLSTM, FactorizedLSTMGates, FactorizedLSTMParams, FactorizedLSTMState
from jaxrnn.cells.fast_grnn import FastGRNN, FastGRNNGates, FastGRNNParams, FastGRNNState
from jaxrnn.cells.fast_rnn import FastRNN, FastRNNParams, FastRNNState
from jaxrnn.cells.fast_weights import FastWeights, FastWeightsParams, FastWeightsState
from jaxrnn.cells.gated_antisymmetric_rnn import (
    GatedAntisymmetricRNN,
    GatedAntisymmetricRNNParams,
    GatedAntisymmetricRNNState,
)
from jaxrnn.cells.gated_delta_net import GatedDeltaNet, GatedDeltaNetParams, GatedDeltaNetState
from jaxrnn.cells.gated_feedback_lstm import GatedFeedbackLSTM, GatedFeedbackLSTMParams, GatedFeedbackLSTMState
from jaxrnn.cells.gated_linear_attention import (
    GatedLinearAttention,
    GatedLinearAttentionParams,
    GatedLinearAttentionState,
)
from jaxrnn.cells.grid_lstm import GridLSTM, GridLSTMParams, GridLSTMState
from jaxrnn.cells.group_lstm import GroupLSTM, GroupLSTMGates, GroupLSTMParams, GroupLSTMState
from jaxrnn.cells.gru import GRU, GRUGates, GRUParams, GRUState
from jaxrnn.cells.gru_d import GRUD, GRUDParams, GRUDState
from jaxrnn.cells.hgrn import HGRN, HGRNParams, HGRNState
from jaxrnn.cells.highway_lstm import HighwayLSTM, HighwayLSTMGates, HighwayLSTMParams, HighwayLSTMState
from jaxrnn.cells.hyper_lstm import HyperLSTM, HyperLSTMParams, HyperLSTMState
from jaxrnn.cells.ind_rnn import IndRNN, IndRNNParams, IndRNNState
from jaxrnn.cells.intersection_rnn import IntersectionRNN, IntersectionRNNParams, IntersectionRNNState
from jaxrnn.cells.janet import JANET, JANETGates, JANETParams, JANETState
from jaxrnn.cells.jordan import Jordan, JordanParams, JordanState
from jaxrnn.cells.kimi_delta_attention import KimiDeltaAttention, KimiDeltaAttentionParams, KimiDeltaAttentionState
from jaxrnn.cells.layer_norm_elman import LayerNormElman, LayerNormElmanParams, LayerNormElmanState
from jaxrnn.cells.layer_norm_gru import LayerNormGRU, LayerNormGRUGates, LayerNormGRUParams, LayerNormGRUState
from jaxrnn.cells.layer_norm_lstm import LayerNormLSTM, LayerNormLSTMGates, LayerNormLSTMParams, LayerNormLSTMState
from jaxrnn.cells.lem import LEM, LEMParams, LEMState
from jaxrnn.cells.light_ru import LightRU, LightRUGates, LightRUParams, LightRUState
from jaxrnn.cells.ligru import LiGRU, LiGRUGates, LiGRUParams, LiGRUState
from jaxrnn.cells.linear_attention import LinearAttention, LinearAttentionParams, LinearAttentionState
from jaxrnn.cells.linear_rtu import LinearRTU, LinearRTUParams, LinearRTUState
from jaxrnn.cells.linoss import LinOSS, LinOSSParams, LinOSSState
from jaxrnn.cells.lipschitz_rnn import LipschitzRNN, LipschitzRNNParams, LipschitzRNNState
from jaxrnn.cells.lmu import LMU, LMUParams, LMUState
from jaxrnn.cells.lru import LRU, LRUParams, LRUState
from jaxrnn.cells.lstm import LSTM, LSTMGates, LSTMParams, LSTMState
from jaxrnn.cells.ltc import LTC, LTCParams, LTCState
from jaxrnn.cells.mamba2 import Mamba2, Mamba2Params, Mamba2State
from jaxrnn.cells.memory_controller_lstm import (
    MemoryControllerLSTM,
    MemoryControllerLSTMGates,
    MemoryControllerLSTMParams,
    MemoryControllerLSTMState,
)
from jaxrnn.cells.mgu import MGU, MGUGates, MGUParams, MGUState
from jaxrnn.cells.mi_lstm import MILSTM, MILSTMGates, MILSTMParams, MILSTMState
from jaxrnn.cells.mi_rnn import MIRNN, MIRNNParams, MIRNNState
from jaxrnn.cells.min_gru import MinGRU, MinGRUParams, MinGRUState
from jaxrnn.cells.min_lstm import MinLSTM, MinLSTMParams, MinLSTMState
from jaxrnn.cells.minimal_rnn import MinimalRNN, MinimalRNNGates, MinimalRNNParams, MinimalRNNState
from jaxrnn.cells.miru1 import MiRU1, MiRU1Gates, MiRU1Params, MiRU1State
from jaxrnn.cells.miru2 import MiRU2, MiRU2Params, MiRU2State
from jaxrnn.cells.mlstm import MLSTM, MLSTMParams, MLSTMState
from jaxrnn.cells.mogrifier_lstm import MogrifierLSTM, MogrifierLSTMGates, MogrifierLSTMParams, MogrifierLSTMState
from jaxrnn.cells.multiplicative_lstm import (
    MultiplicativeLSTM,
    MultiplicativeLSTMGates,
    MultiplicativeLSTMParams,
    MultiplicativeLSTMState,
)
from jaxrnn.cells.mut1 import MUT1, MUT1Gates, MUT1Params, MUT1State
from jaxrnn.cells.mut2 import MUT2, MUT2Gates, MUT2Params, MUT2State
from jaxrnn.cells.mut3 import MUT3, MUT3Gates, MUT3Params, MUT3State
from jaxrnn.cells.nas_cell import NASCell, NASCellParams, NASCellState
from jaxrnn.cells.nbrc import NBRC, NBRCGates, NBRCParams, NBRCState
from jaxrnn.cells.on_lstm import ONLSTM, ONLSTMGates, ONLSTMParams, ONLSTMState
from jaxrnn.cells.original_lstm import OriginalLSTM, OriginalLSTMGates, OriginalLSTMParams, OriginalLSTMState
from jaxrnn.cells.para_gru import ParaGRU, ParaGRUGates, ParaGRUParams, ParaGRUState
from jaxrnn.cells.para_lstm import ParaLSTM, ParaLSTMGates, ParaLSTMParams, ParaLSTMState
from jaxrnn.cells.peephole_conv_lstm import (
    PeepholeConvLSTM,
    PeepholeConvLSTMGates,
    PeepholeConvLSTMParams,
    PeepholeConvLSTMState,
)
from jaxrnn.cells.peephole_lstm import PeepholeLSTM, PeepholeLSTMGates, PeepholeLSTMParams, PeepholeLSTMState
from jaxrnn.cells.phased_lstm import PhasedLSTM, PhasedLSTMGates, PhasedLSTMParams, PhasedLSTMState
from jaxrnn.cells.projected_lstm import ProjectedLSTM, ProjectedLSTMGates, ProjectedLSTMParams, ProjectedLSTMState
from jaxrnn.cells.qrnn import QRNN, QRNNParams, QRNNState
from jaxrnn.cells.ran import RAN, RANGates, RANParams, RANState
from jaxrnn.cells.recurrent_highway_network import (
    RecurrentHighwayNetwork,
    RecurrentHighwayNetworkParams,
    RecurrentHighwayNetworkState,
)
from jaxrnn.cells.reset_after_mgu import ResetAfterMGU, ResetAfterMGUGates, ResetAfterMGUParams, ResetAfterMGUState
from jaxrnn.cells.reset_before_gru import ResetBeforeGRU, ResetBeforeGRUGates, ResetBeforeGRUParams, ResetBeforeGRUState
from jaxrnn.cells.residual_elman import ResidualElman, ResidualElmanParams, ResidualElmanState
from jaxrnn.cells.residual_lstm import ResidualLSTM, ResidualLSTMGates, ResidualLSTMParams, ResidualLSTMState
from jaxrnn.cells.retention import Retention, RetentionParams, RetentionState
from jaxrnn.cells.rg_lru import RGLRU, RGLRUParams, RGLRUState
from jaxrnn.cells.rtu import RTU, RTUParams, RTUState
from jaxrnn.cells.rwkv import RWKV, RWKVParams, RWKVState
from jaxrnn.cells.rwkv7 import RWKV7, RWKV7Params, RWKV7State
from jaxrnn.cells.s4d import S4D, S4DParams, S4DState
from jaxrnn.cells.s5 import S5, S5Params, S5State
from jaxrnn.cells.scornn import ScoRNN, ScoRNNParams, ScoRNNState
from jaxrnn.cells.scrn import SCRN, SCRNParams, SCRNState
from jaxrnn.cells.selective_ssm import SelectiveSSM, SelectiveSSMParams, SelectiveSSMState
from jaxrnn.cells.sgrn import SGRN, SGRNGates, SGRNParams, SGRNState
from jaxrnn.cells.sgu import SGU, SGUGates, SGUParams, SGUState
from jaxrnn.cells.slstm import SLSTM, SLSTMGates, SLSTMParams, SLSTMState
from jaxrnn.cells.sru import SRU, SRUGates, SRUParams, SRUState
from jaxrnn.cells.star import STAR, STARGates, STARParams, STARState
from jaxrnn.cells.tau_gru import TauGRU, TauGRUGates, TauGRUParams, TauGRUState
from jaxrnn.cells.tgru import TGRU, TGRUGates, TGRUParams, TGRUState
from jaxrnn.cells.time_aware_lstm import TimeAwareLSTM, TimeAwareLSTMGates, TimeAwareLSTMParams, TimeAwareLSTMState
from jaxrnn.cells.tlstm import TLSTM, TLSTMGates, TLSTMParams, TLSTMState
from jaxrnn.cells.trnn import TRNN, TRNNParams, TRNNState
from jaxrnn.cells.ugrnn import UGRNN, UGRNNGates, UGRNNParams, UGRNNState
from jaxrnn.cells.unicornn import UnICORNN, UnICORNNParams, UnICORNNState
from jaxrnn.cells.ur_lstm import URLSTM, URLSTMGates, URLSTMParams, URLSTMState
from jaxrnn.cells.urnn import URNN, URNNParams, URNNState
from jaxrnn.cells.wmc_lstm import WMCLSTM, WMCLSTMGates, WMCLSTMParams, WMCLSTMState
from jaxrnn.layer import Cell

# A row a cell, in the order of the imports.
__all__ = [  # noqa: RUF022
    "AntisymmetricRNN", "AntisymmetricRNNState", "AntisymmetricRNNParams",
    "ATR", "ATRState", "ATRParams", "ATRGates",
    "BRC", "BRCState", "BRCParams", "BRCGates",
    "CappedLSTM", "CappedLSTMState", "CappedLSTMParams", "CappedLSTMGates",
    "CfC", "CfCState", "CfCParams",
    "CFN", "CFNState", "CFNParams", "CFNGates",
    "ClockworkRNN", "ClockworkRNNState", "ClockworkRNNParams",
    "ConvGRU", "ConvGRUState", "ConvGRUParams", "ConvGRUGates",
    "ConvLSTM", "ConvLSTMState", "ConvLSTMParams", "ConvLSTMGates",
    "CoRNN", "CoRNNState", "CoRNNParams",
    "CoupledLSTM", "CoupledLSTMState", "CoupledLSTMParams", "CoupledLSTMGates",
    "DampedEMA", "DampedEMAState", "DampedEMAParams",
    "DeltaNet", "DeltaNetState", "DeltaNetParams",
    "DOTRNN", "DOTRNNState", "DOTRNNParams",
    "DSGU", "DSGUState", "DSGUParams", "DSGUGates",
    "DTRNN", "DTRNNState", "DTRNNParams",
    "DTSRNN", "DTSRNNState", "DTSRNNParams",
    "EchoState", "EchoStateState", "EchoStateParams",
    "Elman", "ElmanState", "ElmanParams",
    "ExpRNN", "ExpRNNState", "ExpRNNParams",
    "FactorizedLSTM", "FactorizedLSTMState", "FactorizedLSTMParams", "FactorizedLSTMGates",
    "FastGRNN", "FastGRNNState", "FastGRNNParams", "FastGRNNGates",
    "FastRNN", "FastRNNState", "FastRNNParams",
    "FastWeights", "FastWeightsState", "FastWeightsParams",
    "GatedAntisymmetricRNN", "GatedAntisymmetricRNNState", "GatedAntisymmetricRNNParams",
    "GatedDeltaNet", "GatedDeltaNetState", "GatedDeltaNetParams",
    "GatedFeedbackLSTM", "GatedFeedbackLSTMState", "GatedFeedbackLSTMParams",
    "GatedLinearAttention", "GatedLinearAttentionState", "GatedLinearAttentionParams",
    "GridLSTM", "GridLSTMState", "GridLSTMParams",
    "GroupLSTM", "GroupLSTMState", "GroupLSTMParams", "GroupLSTMGates",
    "GRU", "GRUState", "GRUParams", "GRUGates",
    "GRUD", "GRUDState", "GRUDParams",
    "HGRN", "HGRNState", "HGRNParams",
    "HighwayLSTM", "HighwayLSTMState", "HighwayLSTMParams", "HighwayLSTMGates",
    "HyperLSTM", "HyperLSTMState", "HyperLSTMParams",
    "IndRNN", "IndRNNState", "IndRNNParams",
    "IntersectionRNN", "IntersectionRNNState", "IntersectionRNNParams",
    "JANET", "JANETState", "JANETParams", "JANETGates",
    "KimiDeltaAttention", "KimiDeltaAttentionState", "KimiDeltaAttentionParams",
    "Jordan", "JordanState", "JordanParams",
    "LayerNormElman", "LayerNormElmanState", "LayerNormElmanParams",
    "LayerNormGRU", "LayerNormGRUState", "LayerNormGRUParams", "LayerNormGRUGates",
    "LayerNormLSTM", "LayerNormLSTMState", "LayerNormLSTMParams", "LayerNormLSTMGates",
    "LEM", "LEMState", "LEMParams",
    "LightRU", "LightRUState", "LightRUParams", "LightRUGates",
    "LiGRU", "LiGRUState", "LiGRUParams", "LiGRUGates",
    "LinearAttention", "LinearAttentionState", "LinearAttentionParams",
    "LinearRTU", "LinearRTUState", "LinearRTUParams",
    "LinOSS", "LinOSSState", "LinOSSParams",
    "LipschitzRNN", "LipschitzRNNState", "LipschitzRNNParams",
    "LMU", "LMUState", "LMUParams",
    "LRU", "LRUState", "LRUParams",
    "LSTM", "LSTMState", "LSTMParams", "LSTMGates",
    "LTC", "LTCState", "LTCParams",
    "Mamba2", "Mamba2State", "Mamba2Params",
    "MemoryControllerLSTM", "MemoryControllerLSTMState", "MemoryControllerLSTMParams", "MemoryControllerLSTMGates",
    "MGU", "MGUState", "MGUParams", "MGUGates",
    "MILSTM", "MILSTMState", "MILSTMParams", "MILSTMGates",
    "MIRNN", "MIRNNState", "MIRNNParams",
    "MinGRU", "MinGRUState", "MinGRUParams",
    "MinLSTM", "MinLSTMState", "MinLSTMParams",
    "MinimalRNN", "MinimalRNNState", "MinimalRNNParams", "MinimalRNNGates",
    "MiRU1", "MiRU1State", "MiRU1Params", "MiRU1Gates",
    "MiRU2", "MiRU2State", "MiRU2Params",
    "MLSTM", "MLSTMState", "MLSTMParams",
    "MogrifierLSTM", "MogrifierLSTMState", "MogrifierLSTMParams", "MogrifierLSTMGates",
    "MultiplicativeLSTM", "MultiplicativeLSTMState", "MultiplicativeLSTMParams", "MultiplicativeLSTMGates",
    "MUT1", "MUT1State", "MUT1Params", "MUT1Gates",
    "MUT2", "MUT2State", "MUT2Params", "MUT2Gates",
    "MUT3", "MUT3State", "MUT3Params", "MUT3Gates",
    "NASCell", "NASCellState", "NASCellParams",
    "NBRC", "NBRCState", "NBRCParams", "NBRCGates",
    "ONLSTM", "ONLSTMState", "ONLSTMParams", "ONLSTMGates",
    "OriginalLSTM", "OriginalLSTMState", "OriginalLSTMParams", "OriginalLSTMGates",
    "ParaGRU", "ParaGRUState", "ParaGRUParams", "ParaGRUGates",
    "ParaLSTM", "ParaLSTMState", "ParaLSTMParams", "ParaLSTMGates",
    "PeepholeConvLSTM", "PeepholeConvLSTMState", "PeepholeConvLSTMParams", "PeepholeConvLSTMGates",
    "PeepholeLSTM", "PeepholeLSTMState", "PeepholeLSTMParams", "PeepholeLSTMGates",
    "PhasedLSTM", "PhasedLSTMState", "PhasedLSTMParams", "PhasedLSTMGates",
    "ProjectedLSTM", "ProjectedLSTMState", "ProjectedLSTMParams", "ProjectedLSTMGates",
    "QRNN", "QRNNState", "QRNNParams",
    "RAN", "RANState", "RANParams", "RANGates",
    "RecurrentHighwayNetwork", "RecurrentHighwayNetworkState", "RecurrentHighwayNetworkParams",
    "ResetAfterMGU", "ResetAfterMGUState", "ResetAfterMGUParams", "ResetAfterMGUGates",
    "ResetBeforeGRU", "ResetBeforeGRUState", "ResetBeforeGRUParams", "ResetBeforeGRUGates",
    "ResidualElman", "ResidualElmanState", "ResidualElmanParams",
    "ResidualLSTM", "ResidualLSTMState", "ResidualLSTMParams", "ResidualLSTMGates",
    "Retention", "RetentionState", "RetentionParams",
    "RGLRU", "RGLRUState", "RGLRUParams",
    "RTU", "RTUState", "RTUParams",
    "RWKV", "RWKVState", "RWKVParams",
    "RWKV7", "RWKV7State", "RWKV7Params",
    "S4D", "S4DState", "S4DParams",
    "S5", "S5State", "S5Params",
    "ScoRNN", "ScoRNNState", "ScoRNNParams",
    "SCRN", "SCRNState", "SCRNParams",
    "SelectiveSSM", "SelectiveSSMState", "SelectiveSSMParams",
    "SGRN", "SGRNState", "SGRNParams", "SGRNGates",
    "SGU", "SGUState", "SGUParams", "SGUGates",
    "SLSTM", "SLSTMState", "SLSTMParams", "SLSTMGates",
    "SRU", "SRUState", "SRUParams", "SRUGates",
    "STAR", "STARState", "STARParams", "STARGates",
    "TauGRU", "TauGRUState", "TauGRUParams", "TauGRUGates",
    "TGRU", "TGRUState", "TGRUParams", "TGRUGates",
    "TimeAwareLSTM", "TimeAwareLSTMState", "TimeAwareLSTMParams", "TimeAwareLSTMGates",
    "TLSTM", "TLSTMState", "TLSTMParams", "TLSTMGates",
    "TRNN", "TRNNState", "TRNNParams",
    "UGRNN", "UGRNNState", "UGRNNParams", "UGRNNGates",
    "UnICORNN", "UnICORNNState", "UnICORNNParams",
    "URLSTM", "URLSTMState", "URLSTMParams", "URLSTMGates",
    "URNN", "URNNState", "URNNParams",
    "WMCLSTM", "WMCLSTMState", "WMCLSTMParams", "WMCLSTMGates",
]  # fmt: skip


def all() -> list[type[Cell]]:  # noqa: A001
    """Returns the classes of all cells by name."""
    named = [globals()[name] for name in sorted(__all__, key=str.lower)]
    return [kind for kind in named if issubclass(kind, Cell)]


def find(name: str) -> type[Cell]:
    """Returns the class of the cell with a name, in any case.

    Example:
        >>> jaxrnn.cells.find("lstm")
        <class 'jaxrnn.cells.lstm.LSTM'>

    Args:
        name: Name of a cell, such as "LSTM".

    Raises:
        LookupError: There is no such cell. The message suggests similar names.
    """
    kinds = {kind.__name__: kind for kind in all()}
    by_lower_case = {each.lower(): kind for each, kind in kinds.items()}
    if name.lower() not in by_lower_case:
        found = suggestions(name, kinds)
        advice = question(found) if found else f"`python -m jaxrnn` lists all {len(kinds)} cells"
        raise LookupError(f"there is no cell named {name!r}: {advice}")
    return by_lower_case[name.lower()]


def __dir__() -> list[str]:
    return [*__all__, "all", "find"]
