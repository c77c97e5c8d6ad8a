package dialect

import "time"

// History tells apart the states that a database can be in. The zero value tells
// nothing.
type History struct {
	Parts []HistoryPart

	Mark    uint64        // grows with every commit, and never falls while nothing is lost
	Drawn   uint64        // at least Mark, where Mark can fall although nothing is lost, as when the last rows are deleted
	Flushed uint64        // the mark up to which a crash cannot lose anything
	Boot    string        // changes when the server starts; a start can lose what is not flushed
	Flushes time.Duration // a commit is on disk at most this long after it was made; 0: not known
	Standby bool          // the server is a standby, whose mark can be lower than that of another server
}

// HistoryPart is one thing that identifies a history.
type HistoryPart struct {
	Name    string // the kind of identity, such as "cluster"
	Value   string // "" if it is not known; then it is not compared
	Changed string // the meaning of a different value
}
