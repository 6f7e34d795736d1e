create index note_newest_first on note (written desc);
