package prometheus_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// webhook is what Alertmanager sends to.
type webhook struct {
	url string
	mu  sync.Mutex
	got []message
}

// message is an alert as it arrived.
type message struct {
	Path, Status        string
	Labels, Annotations map[string]string
}

func newWebhook(t *testing.T) *webhook {
	h := &webhook{}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var group struct{ Alerts []message }
		if err := json.NewDecoder(r.Body).Decode(&group); err != nil {
			t.Errorf("the webhook got no JSON: %v", err)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, m := range group.Alerts {
			m.Path = r.URL.Path
			h.got = append(h.got, m)
		}
	}))
	t.Cleanup(server.Close)
	h.url = server.URL
	return h
}

func (h *webhook) messages() []message {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]message(nil), h.got...)
}

// wait waits for a message about an alert with a label.
func (h *webhook) wait(t *testing.T, status, alert, label, value string) (found message) {
	t.Helper()
	eventually(t, alert+" "+status, func() error {
		for _, m := range h.messages() {
			if m.Status == status && m.Labels["alertname"] == alert && m.Labels[label] == value {
				found = m
				return nil
			}
		}
		return fmt.Errorf("the webhook has %d messages, not this one", len(h.messages()))
	})
	return found
}
