package status_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller"
	"github.com/artifactofdevotion/devotion/poller/pollertest"
	"github.com/artifactofdevotion/devotion/poller/status"
)

// get returns the answer of a page.
func get(t *testing.T, page http.Handler, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	page.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	return w
}

// attach adds a pipeline whose Status is s. change changes it.
func attach(page *status.Page, s poller.Status) (hooks poller.Hooks, change func(func(*poller.Status))) {
	page.Attach(&hooks, func() poller.Status { return s })
	return hooks, func(f func(*poller.Status)) { f(&s) }
}

// pipeline is a real Poller over fakes.
type pipeline struct {
	pollertest.Fakes[int]
	poller *poller.Poller[int]
}

func newPipeline(page *status.Page, name string) *pipeline {
	p := &pipeline{}
	p.poller = p.Poller(name)
	page.Attach(&p.poller.Hooks, p.poller.Status)
	return p
}

// start runs the pipeline until stop is called.
func (p *pipeline) start(t *testing.T) (stop func()) {
	t.Helper()
	end := pollertest.Start(t.Context(), p.poller)
	return func() { require.NoError(t, end()) }
}
