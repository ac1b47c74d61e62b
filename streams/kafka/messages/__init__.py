"""Messages of the topics: envelopes and configuration entries as bytes, and back."""
