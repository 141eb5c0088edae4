-- The rolling hashes behind a response's input and behind its output, by which a request finds it that sends the same
-- items again; NULL where it cannot.  They go with their response.
ALTER TABLE responses ADD COLUMN input_hash BLOB;
ALTER TABLE responses ADD COLUMN full_hash BLOB;
CREATE INDEX responses_by_input ON responses (project, input_hash) WHERE input_hash IS NOT NULL;
CREATE INDEX responses_by_context ON responses (project, full_hash) WHERE full_hash IS NOT NULL;
