"""What the experiments share: the training loop, the study, the command line, tables and plots."""
