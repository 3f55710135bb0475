"""What every process of Penstock has: the machine's clock, and logging set up once."""
