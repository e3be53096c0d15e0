"""What a model does with its random activations, measured: while it trains, on one batch, or at test time."""

from dropact.diagnostics.batchnorm import LayerStatistics, Recalibration, recalibrate_batchnorm_
from dropact.diagnostics.branch_sensitivities import sensitivities
from dropact.diagnostics.calibration import calibration_error
from dropact.diagnostics.excess_loss import estimate_excess_loss
from dropact.diagnostics.flatness import Sharpness, loss_along_directions, random_direction, sharpness
from dropact.diagnostics.gradient_information import record_gradients
from dropact.diagnostics.inspection import Inspection, inspect
from dropact.diagnostics.net_inputs import Histogram, Saturation, net_input_histograms
from dropact.diagnostics.probes import PROBES, DropRate, NegativeSide, OutputGap, Probe, VarianceShift
from dropact.diagnostics.recommendations import LayerReport
from dropact.diagnostics.recording import Reading, Recording, measure, record
from dropact.diagnostics.sampling import Prediction, predict_samples

__all__ = [
    "PROBES",
    "DropRate",
    "Histogram",
    "Inspection",
    "LayerReport",
    "LayerStatistics",
    "NegativeSide",
    "OutputGap",
    "Prediction",
    "Probe",
    "Reading",
    "Recalibration",
    "Recording",
    "Saturation",
    "Sharpness",
    "VarianceShift",
    "calibration_error",
    "estimate_excess_loss",
    "inspect",
    "loss_along_directions",
    "measure",
    "net_input_histograms",
    "predict_samples",
    "random_direction",
    "recalibrate_batchnorm_",
    "record",
    "record_gradients",
    "sensitivities",
    "sharpness",
]
