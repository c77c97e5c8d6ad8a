package pglog

import "errors"

// The errors that a caller can tell apart. Each text that wraps them says what to do. All are
// permanent but ErrSlotActive and ErrStandby, which pass.
var (
	// ErrSetup says that something is missing that an administrator must set up, such as
	// wal_level, the publication, or a right.
	ErrSetup = errors.New("the setup is not complete")

	// ErrSlotLost says that the slot does not exist any more, or that the server has removed the
	// log that it needs. Changes are lost: only a new copy is complete.
	ErrSlotLost = errors.New("the slot is lost")

	// ErrSlotActive says that another session reads the slot. A process that was killed holds it
	// for some seconds.
	ErrSlotActive = errors.New("the slot is in use by another session")

	// ErrStandby says that the server is a standby.
	ErrStandby = errors.New("the server is a standby")

	// ErrHistory says that the cursor is of another server, or of a server that was restored, or
	// that the slot has passed it.
	ErrHistory = errors.New("the cursor is of another history")

	// ErrIdentity says that a table's replica identity does not name the rows that change.
	ErrIdentity = errors.New("the replica identity of a table does not identify its rows")

	// ErrTables says that a table is not in the publication, or that the tables changed during
	// the copy.
	ErrTables = errors.New("the tables are not those that were expected")
)
