package pglog

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/artifactofdevotion/devotion/internal/dberr"
	"github.com/artifactofdevotion/devotion/retry"
	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
	"github.com/artifactofdevotion/devotion/source/sqlsource/postgres"
)

// server is the state of the database, the slot and the publication, at one moment.
type server struct {
	standby     bool
	walLevel    string
	version     int
	cluster     string // its system identifier; "": the role may not read it
	database    string
	oid         int64  // of the database
	flushed     lsn    // the log is on disk up to here
	written     lsn    // the log is in memory up to here
	timeline    string // of the log; "": a standby
	nextXID     uint64 // no transaction with this id or a later one has ended
	replicates  bool   // the role has the attribute REPLICATION
	keep        string // max_slot_wal_keep_size
	slot        *slot
	publication *publication
	at          time.Time // before it was asked
}

// slot is a row of pg_replication_slots. Fields that the server does not have are zero.
type slot struct {
	Plugin      string `json:"plugin"`
	Type        string `json:"slot_type"`
	Database    string `json:"database"`
	Temporary   bool   `json:"temporary"`
	ActivePID   int    `json:"active_pid"`
	Restart     string `json:"restart_lsn"`
	Confirmed   string `json:"confirmed_flush_lsn"`
	WALStatus   string `json:"wal_status"`
	Conflicting bool   `json:"conflicting"`
	Invalidated string `json:"invalidation_reason"`
	Synced      bool   `json:"synced"`
	Failover    bool   `json:"failover"`

	restart, confirmed lsn
}

// publication is a row of pg_publication.
type publication struct {
	Insert   bool `json:"pubinsert"`
	Update   bool `json:"pubupdate"`
	Delete   bool `json:"pubdelete"`
	Truncate bool `json:"pubtruncate"`
	ViaRoot  bool `json:"pubviaroot"`
}

// session is a connection, which works with a pooler as well.
type session struct {
	ceiling.Queryer
	conn *sql.Conn
}

// rollback ends a transaction. A limit of the server can end the ROLLBACK itself: the pool must not keep a connection
// whose transaction is aborted.
func (c session) rollback(ctx context.Context) {
	if ceiling.Restore(ctx, c, "ROLLBACK") != nil {
		ceiling.Discard(c.conn)
	}
}

// with calls f with a session.
func (s *Source) with(ctx context.Context, f func(session) error) error {
	conn, err := s.DB.DB.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	open, err := postgres.Dialect{}.Session(ctx, conn, false, nil)
	if err != nil {
		return err
	}
	db, restore, err := open(ctx, conn)
	if restore != nil {
		defer restore()
	}
	if err != nil {
		return err
	}
	return f(session{db, conn})
}

// catalog calls f in a transaction in which the server does not compile queries. The views of publications seem costly to
// it, so that it would spend seconds on compiling a query that takes a millisecond.
func (s *Source) catalog(ctx context.Context, f func(session) error) error {
	return s.with(ctx, func(db session) error {
		err := ceiling.Exec(ctx, db, "BEGIN ISOLATION LEVEL READ COMMITTED")
		defer db.rollback(ctx)
		if err == nil {
			err = ceiling.Exec(ctx, db, `SELECT set_config('jit', 'off', true)`)
		}
		if err == nil {
			err = f(db)
		}
		return err
	})
}

const serverQuery = `SELECT pg_is_in_recovery(), current_setting('wal_level'), current_setting('server_version_num')::int, %s,
	current_database()::text, (SELECT oid::bigint FROM pg_catalog.pg_database WHERE datname = current_database()),
	CASE WHEN pg_is_in_recovery() THEN '0/0' ELSE pg_current_wal_flush_lsn()::text END, CASE WHEN pg_is_in_recovery() THEN '0/0' ELSE pg_current_wal_insert_lsn()::text END,
	CASE WHEN pg_is_in_recovery() THEN '' ELSE left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) END, pg_snapshot_xmax(pg_current_snapshot())::text,
	(SELECT rolreplication OR rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user), current_setting('max_slot_wal_keep_size'),
	(SELECT to_jsonb(r)::text FROM pg_catalog.pg_replication_slots r WHERE slot_name = $1::text), (SELECT to_jsonb(p)::text FROM pg_catalog.pg_publication p WHERE pubname = $2::text)`

// ask reads the state of the server.
func (s *Source) ask(ctx context.Context) (*server, error) {
	v := &server{at: time.Now()}
	var flushed, written, next string
	var slotText, publicationText sql.NullString
	err := s.with(ctx, func(db session) error {
		var err error
		for _, cluster := range []string{`(SELECT system_identifier::text FROM pg_control_system())`, `''`} {
			err = db.QueryRowContext(ctx, fmt.Sprintf(serverQuery, cluster), s.Slot, s.Publication).
				Scan(&v.standby, &v.walLevel, &v.version, &v.cluster, &v.database, &v.oid, &flushed, &written, &v.timeline, &next, &v.replicates, &v.keep, &slotText, &publicationText)
			if dberr.SQLState(err) != "42501" { // the right to read the identifier was revoked
				break
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the state of the server: %w", err)
	}
	var errs [4]error
	v.flushed, errs[0] = parseLSN(flushed)
	v.written, errs[1] = parseLSN(written)
	v.nextXID, errs[3] = strconv.ParseUint(next, 10, 64)
	if slotText.Valid {
		v.slot = &slot{}
		errs[2] = v.slot.parse(slotText.String)
	}
	if publicationText.Valid {
		v.publication = &publication{}
		err = json.Unmarshal([]byte(publicationText.String), v.publication)
	}
	return v, errors.Join(append(errs[:], err)...)
}

func (p *slot) parse(text string) error {
	err := json.Unmarshal([]byte(text), p)
	if err == nil && p.Restart != "" {
		p.restart, err = parseLSN(p.Restart)
	}
	if err == nil && p.Confirmed != "" {
		p.confirmed, err = parseLSN(p.Confirmed)
	}
	return err
}

// lost says why the slot can not be read any more, "" if it can.
func (p *slot) lost() string {
	switch {
	case p.Invalidated != "":
		return p.Invalidated
	case p.Conflicting:
		return "it conflicts with recovery"
	case p.WALStatus == "lost":
		return "the log that it needs was removed (max_slot_wal_keep_size)"
	}
	return ""
}

// origin identifies the slot and the server in cursors.
func (s *Source) origin(v *server) string { return fmt.Sprintf("%s.%d.%s", v.cluster, v.oid, s.Slot) }

// pinned returns how many bytes of the log the server keeps for the slot.
func (v *server) pinned() int64 {
	if v.slot == nil || v.slot.restart == 0 {
		return 0
	}
	return int64(max(v.written, v.slot.restart) - v.slot.restart)
}

// usable returns an error if the log cannot be read with the slot, which need not exist yet.
func (s *Source) usable(v *server) error {
	permanent := func(kind error, format string, args ...any) error {
		return retry.Permanent(fmt.Errorf("%w: %s", kind, fmt.Sprintf(format, args...)))
	}
	switch p, pub := v.slot, v.publication; {
	case v.standby:
		return fmt.Errorf("%w: connect to the primary, or promote this server", ErrStandby)
	case v.walLevel != "logical":
		return permanent(ErrSetup, "wal_level is %s: ALTER SYSTEM SET wal_level = logical, and restart the server", v.walLevel)
	case !v.replicates:
		return permanent(ErrSetup, "the role may not read the log: ALTER ROLE ... REPLICATION")
	case pub == nil:
		return permanent(ErrSetup, "the publication %s does not exist: CREATE PUBLICATION, see Setup", s.Publication)
	case !pub.Insert || !pub.Update || !pub.Delete || !pub.Truncate:
		return permanent(ErrSetup, "the publication %s leaves changes out: ALTER PUBLICATION ... SET (publish = 'insert, update, delete, truncate')", s.Publication)
	case p == nil:
		return nil
	case p.Temporary: // it does not keep the log when that session ends
		return fmt.Errorf("%w: the slot %s is a temporary one of the process %d: end its session, or choose another name for Slot", ErrSetup, s.Slot, p.ActivePID)
	case p.Type != "logical" || p.Plugin != "pgoutput":
		return permanent(ErrSetup, "the slot %s belongs to something else (%s %s): choose another name for Slot", s.Slot, p.Type, p.Plugin)
	case p.Database != v.database:
		return permanent(ErrSetup, "the slot %s is of the database %s, and this is %s: choose another name for Slot, or another database", s.Slot, p.Database, v.database)
	case p.lost() != "":
		return permanent(ErrSlotLost, "slot %s: %s. Changes are missing. Drop the slot (pg_drop_replication_slot), and rewind to the empty cursor for a new copy", s.Slot, p.lost())
	}
	return nil
}

// continues returns an error if the log cannot be read on from a cursor.
func (s *Source) continues(v *server, c cursor) error {
	permanent := func(kind error, format string, args ...any) error {
		return retry.Permanent(fmt.Errorf("%w: %s", kind, fmt.Sprintf(format, args...)))
	}
	const rewind = "rewind to the empty cursor for a new copy"
	switch {
	case c.origin != s.origin(v):
		return permanent(ErrHistory, "it is of %s (cluster, database, slot), and this is %s: connect to the other server, or %s", c.origin, s.origin(v), rewind)
	case v.slot == nil:
		return permanent(ErrSlotLost, "the slot %s does not exist any more, and the server does not keep the log without it: %s", s.Slot, rewind)
	case c.at < v.slot.confirmed:
		return permanent(ErrHistory, "it stands at %v, and the slot %s has been advanced to %v, by another process or by hand; the changes in between cannot be read again: continue with the newer cursor, or %s", c.at, s.Slot, v.slot.confirmed, rewind)
	case c.at > v.written:
		return permanent(ErrHistory, "it stands at %v, and the server's log ends at %v: the server was restored, or has lost its last transactions; drop the slot, and %s", c.at, v.written, rewind)
	case c.seen.until != 0 && (c.seen.timeline != v.timeline || c.seen.until > v.written || c.seen.max > v.nextXID):
		return permanent(ErrHistory, "the copy is of the timeline %s, of the log before %v and of transactions before %d, and the server is on the timeline %s, at %v and %d: it was restored, or was promoted during the copy, so it may use the ids of copied transactions again; drop the slot, and %s",
			c.seen.timeline, c.seen.until, c.seen.max, v.timeline, v.written, v.nextXID, rewind)
	}
	return nil
}

// diverged explains why the log lacks transactions that were delivered. A process that was killed can leave a
// statement on the server that advances the slot after its state was read. The server then omits the transactions
// before the slot, and the next Fetch does not expect them.
func (s *Source) diverged(ctx context.Context, err error) error {
	v, failed := s.ask(ctx)
	switch {
	case failed != nil:
		return failed
	case v.slot == nil || v.slot.confirmed > s.slot:
		return fmt.Errorf("the slot %s was advanced or dropped by another session while it was read", s.Slot)
	}
	return fmt.Errorf("%w: %w: the server was restored, or has lost its last transactions in a failover; drop the slot, and rewind to the empty cursor for a new copy", ErrHistory, err)
}

// explain says what to do about an error of the server's decoder.
func (s *Source) explain(err error) error {
	switch dberr.SQLState(err) {
	case "55006":
		return fmt.Errorf("%w: slot %s: %w", ErrSlotActive, s.Slot, err)
	case "42501":
		return retry.Permanent(fmt.Errorf("%w: the role may not read the log: ALTER ROLE ... REPLICATION: %w", ErrSetup, err))
	case "42704": // the server looks for the publication as of the position in the log
		return retry.Permanent(fmt.Errorf("%w: the slot or the publication does not exist, or did not exist yet at the slot's position in the log: create the publication first, drop the slot, and rewind to the empty cursor: %w", ErrSetup, err))
	}
	return err
}

// create creates the slot. The server waits for the transactions that are running.
func (s *Source) create(ctx context.Context, v *server) error {
	err := s.with(ctx, func(db session) error {
		_, err := ceiling.Texts(ctx, db, createSlot(v), s.Slot)
		return err
	})
	switch dberr.SQLState(err) {
	case "42710": // another process was faster
		return nil
	case "53400":
		return fmt.Errorf("%w: all replication slots are in use, some perhaps for a short time: drop one, or raise max_replication_slots: %w", ErrSetup, err)
	}
	if err != nil {
		err = s.explain(fmt.Errorf("creating the slot %s, which waits for all transactions that are running: %w", s.Slot, err))
	}
	return err
}

// advance lets the server remove the log before a position.
func (s *Source) advance(ctx context.Context, to lsn) (done bool, err error) {
	err = s.with(ctx, func(db session) error {
		defer db.rollback(ctx) // it does not take the advance back
		if err := unlimited(ctx, db); err != nil {
			return err
		}
		_, err := ceiling.Texts(ctx, db, `SELECT end_lsn::text FROM pg_replication_slot_advance($1::name, $2::text::pg_lsn)`, s.Slot, to.String())
		return err
	})
	if dberr.SQLState(err) == "55006" { // the server still ends an earlier statement; a later call will do it
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("advancing the slot: %w", err)
	}
	return true, nil
}

// createSlot is the statement that creates the slot. Since Postgres 17 a slot survives a failover to a standby that
// synchronizes slots.
func createSlot(v *server) string {
	option := ""
	if v.version >= 170000 {
		option = ", failover => true"
	}
	return "SELECT lsn::text FROM pg_create_logical_replication_slot($1::name, 'pgoutput'" + option + ")"
}
