"""What a run leaves behind: the posterior, its summary, plots and exports."""
