use strict;
use warnings;
use HTTP::Tiny;
use JSON::PP;

my $runs = "$ENV{HUB_URL}/api/v1/pipelines/runs";
my $client = HTTP::Tiny->new(timeout => 30, default_headers => { Authorization => "Bearer $ENV{HUB_KEY}" });

sub checked {
    my ($answer) = @_;
    die "$answer->{status} $answer->{content}" unless $answer->{success};
    return decode_json($answer->{content});
}

sub launch {
    my $headers = { "Content-Type" => "application/json", "Idempotency-Key" => "perl-1" };
    return checked($client->post($runs, { headers => $headers, content => '{"recipe_id": "endless"}' }))->{run_id};
}

my $run = launch();
print "$run\n", launch(), "\n";
my ($text, $after) = ("", 0);
while ($text !~ /\n\z/) {
    my $page = checked($client->get("$runs/$run/logs?after=$after&wait=5"));
    ($text, $after) = ($text . $page->{chunk}, $page->{offset});
}
print $text, checked($client->post("$runs/$run/kill"))->{status}, "\n";
