package pollertest_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/pollertest"
	"github.com/artifactofdevotion/devotion/source"
)

func TestRecorder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var fakes pollertest.Fakes[int]
		var rec pollertest.Recorder
		fakes.Source.Append(1, 2, 3)
		fakes.Sink.Refuse = func(r int) error {
			if r == 2 {
				return errors.New("no twos")
			}
			return nil
		}
		fakes.Sink.FailNext(2, errors.New("disk gone"))
		p := fakes.Poller("numbers")
		p.BatchSize, p.Hooks, p.Logger = 1, rec.Hooks(), rec.Logger()
		stop := pollertest.Start(t.Context(), p)
		require.NoError(t, rec.Wait(t.Context(), func() bool { return len(rec.Polls()) == 3 }))
		require.Equal(t, []int{1, 3}, fakes.Sink.Records())
		require.Len(t, fakes.DeadLetter.Records(), 1)
		require.NoError(t, stop())
		require.NoError(t, stop(), "again")

		require.Len(t, rec.Backoffs(), 2)
		require.Equal(t, poller.OpWrite, rec.Backoffs()[0].Op)
		require.Equal(t, source.Cursor("1"), rec.DeadLetters()[0].From)
		require.Equal(t, poller.OpLoad, rec.Steps()[0].Op)
		require.Equal(t, poller.OpLoad, rec.Begun()[0].Op)
		require.Equal(t, len(rec.Begun()), len(rec.Steps()))
		require.Contains(t, rec.Log(), `level=INFO msg=started pipeline=numbers cursor=""`)
		require.Contains(t, rec.Log(), `level=WARN msg="record rejected" pipeline=numbers from=1 to=2 err="rejected: no twos" total=1`)
	})
}

func TestRecorderWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var rec pollertest.Recorder
		require.NoError(t, rec.Wait(t.Context(), func() bool { return true }))

		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		require.ErrorIs(t, rec.Wait(ctx, func() bool { return false }), context.DeadlineExceeded)

		log := rec.Logger()
		time.AfterFunc(time.Minute, func() { log.Debug("first") })
		time.AfterFunc(2*time.Minute, func() {
			log.WithGroup("g").With("a", 1).Log(context.Background(), slog.LevelError, "second", "time", "kept")
		})
		began := time.Now()
		require.NoError(t, rec.Wait(t.Context(), func() bool { return len(rec.Log()) == 2 }))
		require.Equal(t, 2*time.Minute, time.Since(began))
		require.Equal(t, []string{"level=DEBUG msg=first", "level=ERROR msg=second g.a=1 g.time=kept"}, rec.Log())
	})
}

func TestCheckpointerFaults(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	lost := errors.New("answer lost")
	var c pollertest.Checkpointer
	require.Empty(t, c.Stored())

	c.LoseNext(1, lost)
	require.ErrorIs(t, c.Save(ctx, "", "1"), lost)
	require.Equal(t, source.Cursor("1"), c.Stored(), "saved, but the caller was not told")
	require.ErrorIs(t, c.Save(ctx, "", "2"), poller.ErrConflict, "not the save that was lost")
	require.NoError(t, c.Save(ctx, "", "1"), "the save that was lost")
	require.NoError(t, c.Save(ctx, "1", "2"))

	c.FailNext(1, lost)
	require.ErrorIs(t, c.Save(ctx, "2", "3"), lost)
	require.Equal(t, source.Cursor("2"), c.Stored())

	other := c.Open()
	c.Fail(lost)
	at, err := other.Load(ctx)
	require.NoError(t, err, "faults are those of one handle")
	require.Equal(t, source.Cursor("2"), at)
	require.NoError(t, other.Save(ctx, "2", "3"))
	c.Heal()
	require.ErrorIs(t, c.Save(ctx, "2", "3"), poller.ErrConflict)
	err = c.Save(ctx, "3", "4")
	require.ErrorIs(t, err, poller.ErrConflict)
	require.ErrorContains(t, err, `sinktest: move the cursor from "3" to "4": checkpoint was moved by another writer: expected "3", stored by nobody or by this handle`)

	other.Rewind("1")
	require.ErrorIs(t, other.Save(ctx, "3", "4"), poller.ErrConflict)
	at, err = c.Load(ctx)
	require.NoError(t, err)
	require.Equal(t, source.Cursor("1"), at)
	require.Equal(t, []source.Cursor{"1", "2", "3", "1"}, c.History())
	require.Len(t, c.Calls(), 8)
}
