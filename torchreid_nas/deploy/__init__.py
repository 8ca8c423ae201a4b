"""Networks at test time: BatchNorms folded into convolutions, layers fused, precision chosen."""
