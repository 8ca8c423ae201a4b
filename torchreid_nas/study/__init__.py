"""Studies: grids of runs — rows × columns × seeds — with one table, and series of runs as a case of them."""
